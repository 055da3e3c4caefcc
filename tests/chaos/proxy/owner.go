package proxy

import (
	"fmt"
	"net"
	"os"
	"strings"
)

// Owner says which of the processes has the other end of a connection that came over loopback; 0: none of them. Brokers of a cluster must
// name a PostgreSQL by one and the same address, so the link can't be told by the port that was dialled.
func Owner(conn net.Conn, pids []int) int {
	peer, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return 0
	}
	inode := socketInode(peer.Port, conn.LocalAddr().(*net.TCPAddr).Port)
	if inode == "" {
		return 0
	}
	want := "socket:[" + inode + "]"
	for _, pid := range pids {
		folder := fmt.Sprintf("/proc/%d/fd", pid)
		files, err := os.ReadDir(folder)
		if err != nil {
			continue // it has just ended
		}
		for _, file := range files {
			if to, err := os.Readlink(folder + "/" + file.Name()); err == nil && to == want {
				return pid
			}
		}
	}
	return 0
}

// socketInode finds the socket with these ports in the kernel's table of TCP over IPv4.
func socketInode(local, remote int) string {
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return ""
	}
	from, to := fmt.Sprintf(":%04X", local), fmt.Sprintf(":%04X", remote)
	for line := range strings.SplitSeq(string(table), "\n") {
		fields := strings.Fields(line)
		if len(fields) > 9 && strings.HasSuffix(fields[1], from) && strings.HasSuffix(fields[2], to) {
			return fields[9]
		}
	}
	return ""
}
