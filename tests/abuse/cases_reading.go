package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Clients that ask and do not read.
var readingCases = []abuse{
	{"unread/produce", 320, func(t *target) (string, error) {
		return t.unread(4, framed(produceRequest("victim", plain(make([]byte, 1024))), 1))
	}},
	{"unread/fetch", 128, func(t *target) (string, error) { return t.unread(4, framed(fetchRequest("big", 0, 50<<20), 1)) }},
	{"unread/metadata", 96, func(t *target) (string, error) { return t.unread(4, framed(allTopics(), 1)) }},
	{"unread/fetch-everywhere", 288, fetchEverywhere},
	{"pipelined/produce", 320, func(t *target) (string, error) {
		return t.pipelined(produceRequest("victim", plain(make([]byte, 100))))
	}},
	{"pipelined/metadata", 64, func(t *target) (string, error) { return t.pipelined(allTopics()) }},
}

// unread sends the same request again and again, until the broker reads no more, and reads nothing.
func (t *target) unread(count int, frame []byte) (string, error) {
	conns, err := t.dialMany(count)
	if err != nil {
		return "", err
	}
	defer closeAll(conns)
	sent, blocked, closed := 0, 0, 0
	for end := time.Now().Add(t.length); time.Now().Before(end); {
		blocked, closed = 0, 0
		for _, c := range conns {
			c.small()
			n, err := c.write(repeated(frame, 1+(64<<10)/len(frame)), 100*time.Millisecond)
			sent += n
			if errors.Is(err, os.ErrDeadlineExceeded) {
				blocked++
			} else if err != nil {
				closed++
			}
		}
	}
	return fmt.Sprintf("%d connections sent %d requests and read nothing; at the end %d were not read from, %d closed", count, sent/len(frame), blocked, closed), nil
}

// fetchEverywhere asks for 50 MiB on many connections, each from another place of the log, and reads nothing. Another consumer who reads
// is served beside.
func fetchEverywhere(t *target) (string, error) {
	conns, err := t.dialMany(150)
	if err != nil {
		return "", err
	}
	defer closeAll(conns)
	for i, c := range conns {
		c.small()
		for range 5 {
			if _, err := c.write(framed(fetchRequest("big", int64(i*8), 50<<20), 1), time.Second); err != nil {
				return "", err
			}
		}
	}
	time.Sleep(t.length)
	honest, err := t.dial()
	if err != nil {
		return "", err
	}
	defer honest.Close()
	began := time.Now()
	var got int64
	for offset := int64(0); got < 16<<20; offset += 4 {
		if _, err := honest.write(framed(fetchRequest("big", offset, 1<<20), 1), time.Second); err != nil {
			return "", err
		}
		bytes, err := honest.answer(20 * time.Second)
		if err != nil {
			return "", fmt.Errorf("a consumer who reads, after %d bytes: %w", got, err)
		}
		got += bytes
		if bytes < 1000 {
			offset -= 4
		}
	}
	return fmt.Sprintf("%d connections asked for 50 MiB each, 5 times, and read nothing; a consumer beside read 16 MiB in %.1f s", len(conns), time.Since(began).Seconds()), nil
}

// pipelined sends thousands of requests on one connection before it reads, and then reads every answer.
func (t *target) pipelined(request kmsg.Request) (string, error) {
	c, err := t.dial()
	if err != nil {
		return "", err
	}
	defer c.Close()
	count := 0
	for end := time.Now().Add(t.length); time.Now().Before(end); {
		const run = 4000
		failed := make(chan error, 1)
		go func() {
			for i := range run {
				if _, err := c.write(framed(request, int32(i)), time.Minute); err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
		time.Sleep(300 * time.Millisecond)
		for range run {
			if _, err := c.answer(time.Minute); err != nil {
				return "", fmt.Errorf("answer %d: %w", count, err)
			}
			count++
		}
		if err := <-failed; err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d requests, 4000 at a time, all answered", count), nil
}
