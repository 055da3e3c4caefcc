package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// ack sends records one a request at a steady rate, many of them on their way at a time, so that none waits for another. With -store
// the store is asked meanwhile, ten times a second, to create an object as large as the records of a tenth of a second: what the store
// itself takes. Of a local disk that is a file which is written, synced and named, and its folder synced: what nothing that is promised
// to outlast a power cut can do without.
func (l load) ack(ctx context.Context, watch *watch) (figures, error) {
	client := l.client(kgo.ProducerLinger(0), kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(60), kgo.MaxBufferedRecords(10_000),
		kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	defer client.Close()
	if err := l.makeTopic(ctx, client); err != nil {
		return nil, err
	}
	s := &sender{client: client, values: newValues(l)}
	l.pace(l.rate, func() { s.send(ctx, false) })
	if err := s.wait(); err != nil {
		return nil, err
	}
	var puts latencies
	probed := make(chan error, 1)
	probing, stop := context.WithCancel(ctx)
	defer stop()
	if l.store == "" {
		probed <- nil
	} else {
		go func() { probed <- l.probe(probing, &puts) }()
	}
	watch.begin()
	l.pace(l.records, func() { s.send(ctx, true) })
	if err := s.wait(); err != nil {
		return nil, err
	}
	result := watch.end(l.records, l.size)
	stop()
	if err := <-probed; err != nil {
		return nil, err
	}
	s.acks.into(result, "ack")
	puts.into(result, "store_put")
	return result, nil
}

// probe creates objects until the context ends.
func (l load) probe(ctx context.Context, puts *latencies) error {
	body := make([]byte, l.rate*l.size/10)
	rand.Read(body)
	run := make([]byte, 8)
	rand.Read(run)
	folder, local := strings.CutPrefix(l.store, "file://")
	if local {
		defer os.RemoveAll(folder)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for number := 0; ; number++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		began := time.Now()
		var err error
		if local {
			err = createFile(folder, fmt.Sprintf("%x-%d", run, number), body)
		} else {
			// Not the load's context: the last one is measured to its end.
			err = put(fmt.Sprintf("%s/probe/%x/%d", l.store, run, number), body)
		}
		if err != nil {
			return err
		}
		puts.add(began)
	}
}

// createFile creates a file under a name that is free, durably.
func createFile(folder, name string, body []byte) error {
	temporary := filepath.Join(folder, "temporary")
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, written := file.Write(body)
	if err := errors.Join(written, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := errors.Join(os.Link(temporary, filepath.Join(folder, name)), os.Remove(temporary)); err != nil {
		return err
	}
	names, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(names.Sync(), names.Close())
}

// put creates an object on an S3 server, if it is not there, with the credentials of the environment.
func put(address string, body []byte) error {
	request, err := http.NewRequest(http.MethodPut, address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("If-None-Match", "*")
	sign(request, time.Now().UTC(), os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), os.Getenv("AWS_REGION"))
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	said, _ := io.ReadAll(answer.Body) // only told
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("PUT %s: %s: %s", address, answer.Status, said)
	}
	return nil
}

// sign adds the headers of AWS's Signature Version 4; the body is not part of it.
func sign(request *http.Request, now time.Time, key, secret, region string) {
	const unsigned, terms = "UNSIGNED-PAYLOAD", "host;if-none-match;x-amz-content-sha256;x-amz-date"
	day, moment := now.Format("20060102"), now.Format("20060102T150405Z")
	request.Header.Set("X-Amz-Date", moment)
	request.Header.Set("X-Amz-Content-Sha256", unsigned)
	path := (&url.URL{Path: request.URL.Path}).EscapedPath()
	canonical := fmt.Sprintf("%s\n%s\n\nhost:%s\nif-none-match:*\nx-amz-content-sha256:%s\nx-amz-date:%s\n\n%s\n%s",
		request.Method, path, request.URL.Host, unsigned, moment, terms, unsigned)
	hash := sha256.Sum256([]byte(canonical))
	scope := day + "/" + region + "/s3/aws4_request"
	signing := []byte("AWS4" + secret)
	for _, part := range []string{day, region, "s3", "aws4_request"} {
		signing = mac(signing, part)
	}
	signature := mac(signing, "AWS4-HMAC-SHA256\n"+moment+"\n"+scope+"\n"+hex.EncodeToString(hash[:]))
	request.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%x", key, scope, terms, signature))
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
