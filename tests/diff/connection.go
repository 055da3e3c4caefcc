package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A broker answers within this time, or the answer is "none".
const answerLimit = 60 * time.Second

var errNoAnswer = errors.New("no answer")

// connection is one TCP connection that frames requests itself: one version a request, as the scenario says.
type connection struct {
	socket net.Conn
	next   int32
}

func dial(address string) (*connection, error) {
	socket, err := net.DialTimeout("tcp", address, answerLimit)
	if err != nil {
		return nil, err
	}
	return &connection{socket: socket, next: 1}, nil
}

// send writes a request of the formatter's form, with the version that it has been given.
func (c *connection) send(request kmsg.Request) error {
	frame := kmsg.NewRequestFormatter(kmsg.FormatterClientID("diff")).AppendRequest(nil, request, c.next)
	c.next++
	return c.write(frame)
}

func (c *connection) write(frame []byte) error {
	c.socket.SetWriteDeadline(time.Now().Add(answerLimit))
	_, err := c.socket.Write(frame)
	return err
}

// receive reads one frame and returns what follows the correlation id.
func (c *connection) receive(limit time.Duration) ([]byte, error) {
	c.socket.SetReadDeadline(time.Now().Add(limit))
	var head [8]byte
	if _, err := io.ReadFull(c.socket, head[:]); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, errNoAnswer
		}
		return nil, err
	}
	length := binary.BigEndian.Uint32(head[:])
	if length < 4 || length > 256<<20 {
		return nil, fmt.Errorf("a frame of %d bytes", length)
	}
	body := make([]byte, length-4)
	_, err := io.ReadFull(c.socket, body)
	return body, err
}

// ask sends a request and decodes the answer.
func (c *connection) ask(request kmsg.Request) (kmsg.Response, error) {
	if err := c.send(request); err != nil {
		return nil, err
	}
	body, err := c.receive(answerLimit)
	if err != nil {
		return nil, err
	}
	response, _, err := decode(request.Key(), request.GetVersion(), body)
	return response, err
}

// decode reads a response of this key and version. exact says whether its encoding is the canonical one to the byte.
func decode(key, version int16, body []byte) (response kmsg.Response, exact bool, err error) {
	response = kmsg.ResponseForKey(key)
	response.SetVersion(version)
	if response.IsFlexible() && key != 18 {
		if body, err = skipTags(body); err != nil {
			return nil, false, err
		}
	}
	if err = response.ReadFrom(body); err != nil {
		return nil, false, err
	}
	return response, string(response.AppendTo(nil)) == string(body), nil
}

func skipTags(body []byte) ([]byte, error) {
	count, n := binary.Uvarint(body)
	if n <= 0 {
		return nil, errors.New("a header without tag count")
	}
	body = body[n:]
	for range count {
		if _, n = binary.Uvarint(body); n <= 0 {
			return nil, errors.New("a broken tag")
		}
		body = body[n:]
		size, n := binary.Uvarint(body)
		if n <= 0 || uint64(len(body)-n) < size {
			return nil, errors.New("a broken tag")
		}
		body = body[n+int(size):]
	}
	return body, nil
}
