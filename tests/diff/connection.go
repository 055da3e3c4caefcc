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

var (
	errNoAnswer    = errors.New("no answer")
	errOtherAnswer = errors.New("the correlation id of another request")
)

// rawID is the correlation id of the frames that scenarios make themselves.
const rawID = 7

// fate names what became of a connection that brought no answer, in words that two brokers can share.
func fate(err error) string {
	switch {
	case errors.Is(err, errNoAnswer):
		return "no answer"
	case errors.Is(err, errOtherAnswer):
		return "answers another request"
	}
	return "closed"
}

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

// send writes a request of the formatter's form, with the version that it has been given, and returns its correlation id.
func (c *connection) send(request kmsg.Request) (int32, error) {
	id := c.next
	c.next++
	return id, c.write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("diff")).AppendRequest(nil, request, id))
}

func (c *connection) write(frame []byte) error {
	c.socket.SetWriteDeadline(time.Now().Add(answerLimit))
	_, err := c.socket.Write(frame)
	return err
}

// receive reads one frame, which must be the answer to the request of this correlation id, and returns what follows the id.
func (c *connection) receive(id int32, limit time.Duration) ([]byte, error) {
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
	if _, err := io.ReadFull(c.socket, body); err != nil {
		return nil, err
	}
	if int32(binary.BigEndian.Uint32(head[4:])) != id {
		return nil, errOtherAnswer
	}
	return body, nil
}

// ask sends a request and decodes the answer.
func (c *connection) ask(request kmsg.Request) (kmsg.Response, error) {
	id, err := c.send(request)
	if err != nil {
		return nil, err
	}
	body, err := c.receive(id, answerLimit)
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
