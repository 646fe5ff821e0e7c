package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tanodb/tanodb/internal/server/api"
)

// wire is one HTTP/1.1 connection to one node, with one request at a time on
// it. It costs a fraction of what net/http's client does, which matters to a
// load generator that shares the machine with what it measures.
type wire struct {
	as    *caller
	base  string // URL of the node
	login string // a line of the header; empty: there is none

	conn net.Conn
	in   *bufio.Reader
	out  []byte
}

// newWire is a wire to no node yet. A password must go to bases of https alone.
func newWire(as *caller, password string) *wire {
	w := &wire{as: as}
	if as.user != "" {
		w.login = "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(as.user+":"+password))
	}
	return w
}

// to turns the wire to a node.
func (w *wire) to(base string) {
	if w.base != base {
		w.close()
		w.base = base
	}
}

// wireAnswer is what came back.
type wireAnswer struct {
	status int
	body   []byte
}

// errNotSent marks errors of requests that have certainly reached nobody.
var errNotSent = errors.New("not sent")

// maxWireBody is how many bytes of an answer are kept: more than bench ever
// writes, with room for siblings.
const maxWireBody = 64 << 20

// do sends one request and reads its answer, both before the deadline. After an
// error the connection is closed; the next request opens a new one.
func (w *wire) do(deadline time.Time, method, path string, header []string, body []byte) (wireAnswer, error) {
	if w.conn == nil {
		if err := w.dial(deadline); err != nil {
			return wireAnswer{}, err
		}
	}
	ans, err := w.exchange(deadline, method, path, header, body)
	if err != nil {
		w.close()
	}
	return ans, err
}

func (w *wire) dial(deadline time.Time) error {
	scheme, host, _ := strings.Cut(w.base, "://")
	port := "80"
	if scheme == "https" {
		port = "443"
	}
	if !strings.Contains(host[strings.LastIndex(host, "]")+1:], ":") {
		host += ":" + port
	}
	conn, err := (&net.Dialer{Deadline: deadline}).Dial("tcp", host)
	if err == nil && scheme == "https" {
		conn, err = w.secure(deadline, conn, host)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNotSent, err)
	}
	w.conn = conn
	if w.in == nil {
		w.in = bufio.NewReaderSize(conn, 16<<10)
	}
	w.in.Reset(conn)
	return nil
}

// secure makes a connection one of TLS.
func (w *wire) secure(deadline time.Time, conn net.Conn, host string) (net.Conn, error) {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	s := tls.Client(conn, w.as.secured(name))
	if err := errors.Join(s.SetDeadline(deadline), s.Handshake()); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return s, nil
}

func (w *wire) exchange(deadline time.Time, method, path string, header []string, body []byte) (wireAnswer, error) {
	if err := w.conn.SetDeadline(deadline); err != nil {
		return wireAnswer{}, err
	}
	_, host, _ := strings.Cut(w.base, "://")
	w.out = appendRequest(w.out[:0], method, host, path, w.login, header, body)
	if _, err := w.conn.Write(w.out); err != nil {
		return wireAnswer{}, err
	}
	resp, err := http.ReadResponse(w.in, &http.Request{Method: method})
	if err != nil {
		return wireAnswer{}, err
	}
	defer resp.Body.Close()
	kept, err := readBody(resp)
	if err != nil {
		return wireAnswer{}, err
	}
	if resp.Close {
		w.close()
	}
	return wireAnswer{status: resp.StatusCode, body: kept}, nil
}

// readBody reads a body of known length at one go.
func readBody(resp *http.Response) ([]byte, error) {
	switch n := resp.ContentLength; {
	case n == 0:
		return nil, nil
	case n > maxWireBody:
		return nil, fmt.Errorf("answer of %d bytes", n)
	case n > 0:
		b := make([]byte, n)
		_, err := io.ReadFull(resp.Body, b)
		return b, err
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxWireBody+1))
	if len(b) > maxWireBody {
		return nil, fmt.Errorf("answer of more than %d bytes", maxWireBody)
	}
	return b, err
}

// appendRequest appends a request to dst. Header lines are whole, without their
// ends, and an empty login is none; body nil: there is none.
func appendRequest(dst []byte, method, host, path, login string, header []string, body []byte) []byte {
	dst = append(dst, method...)
	dst = append(dst, ' ')
	dst = append(dst, path...)
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = append(dst, host...)
	if login != "" {
		dst = append(dst, "\r\n"...)
		dst = append(dst, login...)
	}
	for _, line := range header {
		dst = append(dst, "\r\n"...)
		dst = append(dst, line...)
	}
	if body != nil {
		dst = append(dst, "\r\nContent-Type: application/octet-stream\r\nContent-Length: "...)
		dst = strconv.AppendInt(dst, int64(len(body)), 10)
	}
	dst = append(dst, "\r\n\r\n"...)
	return append(dst, body...)
}

func (w *wire) close() {
	if w.conn != nil {
		w.conn.Close()
		w.conn = nil
	}
}

// wireKind names an error below HTTP for the report.
func wireKind(err error) string {
	var late net.Error
	switch {
	case errors.As(err, &late) && late.Timeout():
		return "timeout"
	case errors.Is(err, errNotSent):
		return "connect"
	}
	return "broken connection"
}

// statusKind names a status that is an error for the report: by the code of our
// own routes, or by how the text of Riak's begins.
func statusKind(ans wireAnswer) string {
	var e api.Error
	if json.Unmarshal(ans.body, &e) == nil && e.Code != "" {
		return strings.TrimSpace(string(e.Code) + " " + e.Need)
	}
	const most = 60 // bytes
	text, _, _ := strings.Cut(string(bytes.TrimSpace(ans.body[:min(len(ans.body), most)])), "\n")
	text, _, _ = strings.Cut(text, ":")
	return strings.TrimSpace(fmt.Sprintf("status %d %s", ans.status, text))
}

// statusText is what an answer says of its error.
func statusText(ans wireAnswer) string {
	var e api.Error
	if json.Unmarshal(ans.body, &e) == nil && e.Text != "" {
		return e.Text
	}
	return string(ans.body)
}
