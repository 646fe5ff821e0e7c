package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

const (
	// timeoutGrace is how much longer than --timeout an answer is waited for: the
	// server answers at the timeout, and says what has come until then.
	timeoutGrace = 2 * time.Second

	// dialTimeout is how long a server may take to accept a connection.
	dialTimeout = 5 * time.Second

	// linger is how long a decided request goes on waiting for the other replicas,
	// since people want to see all replies.
	linger = 250 * time.Millisecond

	// maxAnswer is how many bytes of an answer are read: an object of the largest
	// size in base64, and room for what is said of it.
	maxAnswer = 2*kv.MaxObject + 16<<20
)

// The headers of requests about one key.
const (
	headerContext = "X-Riak-Vclock"    // base64
	headerExpires = "X-Tanodb-Expires" // RFC 3339
)

// errUnreachable says that no address answered: nothing was asked.
var errUnreachable = errors.New("is it running? start it with: tanodb serve")

// remoteError is an error that a server has answered.
type remoteError struct {
	body api.Error
	err  error // body as an error of package kv
}

// Error is the server's own text.
func (e *remoteError) Error() string { return e.body.Text }

// Unwrap is the error of package kv that the server speaks of.
func (e *remoteError) Unwrap() error { return e.err }

// base reads the address of a server.
func (a *app) base(addr string) (string, error) {
	if a.secure && !strings.Contains(addr, "://") {
		addr = "https://" + addr
	}
	return parseBase(addr)
}

// parseBase reads the address of a server: a URL, or HOST:PORT.
func parseBase(addr string) (string, error) {
	s := addr
	if !strings.Contains(s, "://") {
		s = "http://" + s
	}
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", usagef("--addr %q is not an address; it must be a URL such as %s", addr, defaultAddr)
	}
	if (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" {
		return "", usagef("--addr %q has more than a scheme, a host and a port", addr)
	}
	if port := u.Port(); port != "" {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return "", usagef("--addr %q has a port that is not one; ports are from 1 to 65535", addr)
		}
	}
	return u.Scheme + "://" + u.Host, nil
}

// request is one HTTP request to whichever server can be reached.
type request struct {
	method string
	path   string // escaped
	query  url.Values
	header http.Header
	body   []byte
}

// answer is what came back of it.
type answer struct {
	base   string // which server
	status int
	header http.Header
	body   []byte
}

// keyPath is the escaped path of a key below a prefix such as "/_tanodb".
func keyPath(prefix string, k kv.Key) string {
	return bucketPath(prefix, kv.Bucket{Type: k.Type, Name: k.Bucket}) + "/" + escape(k.Name)
}

// bucketPath is the escaped path of a bucket's keys.
func bucketPath(prefix string, b kv.Bucket) string {
	if b.Type != "" {
		prefix += "/types/" + escape(b.Type)
	}
	return prefix + "/buckets/" + escape(b.Name) + "/keys"
}

// escape makes any bytes a segment of a path.
func escape(s string) string { return url.PathEscape(s) }

// ask sends the request to the first address that accepts a connection and
// returns its answer. A status from 400 on is a *remoteError.
func (a *app) ask(ctx context.Context, r request) (answer, error) {
	var err error
	for _, base := range a.addrs {
		var ans answer
		ans, err = a.roundTrip(ctx, base, r)
		if !errors.Is(err, errUnreachable) {
			return ans, err
		}
	}
	return answer{}, err
}

// roundTrip asks one server as whoever asks.
func (a *app) roundTrip(ctx context.Context, base string, r request) (answer, error) {
	return a.as().roundTrip(ctx, base, r)
}

// as is who asks.
func (a *app) as() *caller {
	if a.caller == nil {
		return plainCaller
	}
	return a.caller
}

func notOverPlain(base string) error {
	return usagef("%s is not reached by https, and a password goes over nothing else", base)
}

// send sends a request to one server. A password goes over TLS only.
func (c *caller) send(ctx context.Context, base string, r request) (*http.Response, error) {
	if c.user != "" && !strings.HasPrefix(base, "https://") {
		return nil, notOverPlain(base)
	}
	target := base + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	if c.user != "" {
		password, err := c.secret()
		if err != nil {
			return nil, err
		}
		req.SetBasicAuth(c.user, password)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, explainTransport(base, err)
	}
	return resp, nil
}

// roundTrip asks one server, and reads all of its answer.
func (c *caller) roundTrip(ctx context.Context, base string, r request) (answer, error) {
	resp, err := c.send(ctx, base, r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return answer{}, fmt.Errorf("%s broke off in the middle of its answer: %w", base, err)
	}
	if len(body) > maxAnswer {
		return answer{}, fmt.Errorf("%s answered with more than %d bytes", base, maxAnswer)
	}
	ans := answer{base: base, status: resp.StatusCode, header: resp.Header, body: body}
	if resp.StatusCode >= http.StatusBadRequest {
		err := ans.failure()
		if resp.StatusCode == http.StatusUnauthorized {
			err = fmt.Errorf("%w: %s", err, c.unknown())
		}
		return ans, err
	}
	return ans, nil
}

// client sends the requests of all commands but bench, where nobody is to be known.
var client = newClient(nil)

// newClient makes a client. It follows no redirect: a server that sends one is not TanoDB.
func newClient(conf *tls.Config) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSClientConfig:     conf,
			MaxIdleConnsPerHost: maxParallel, // what is done at once goes on with the same connections
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// explainTransport says what a failure below HTTP means for the one who asked.
func explainTransport(base string, err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return fmt.Errorf("cannot reach %s (%w): %w", base, op.Err, errUnreachable)
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if why := explainTLS(base, err); why != nil {
		return why
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s did not answer in time: %w", base, kv.ErrTimeout)
	}
	if strings.Contains(err.Error(), "malformed HTTP response") { // no type of package net/http says so
		return fmt.Errorf("%s does not speak HTTP: is it the address of --pb or --listen? (%w)", base, err)
	}
	return fmt.Errorf("%s broke off: %w", base, err)
}

// failure makes an error of an answer whose status says that it is one.
func (ans answer) failure() error {
	var e api.Error
	if err := json.Unmarshal(ans.body, &e); err != nil || e.Text == "" {
		const most = 200 // bytes; what is longer is a page meant for browsers
		text := strings.TrimSpace(string(ans.body[:min(len(ans.body), most)]))
		switch {
		case ans.status == http.StatusUnauthorized:
			return errors.New(text)
		case strings.HasPrefix(ans.base, "http://") && strings.Contains(text, "HTTP request to an HTTPS server"): // so says package net/http
			return fmt.Errorf("%s speaks TLS: ask for %s", ans.base, strings.Replace(ans.base, "http", "https", 1))
		}
		return fmt.Errorf("%s answered with status %d: %q; is it a TanoDB server?", ans.base, ans.status, text)
	}
	return &remoteError{e, e.Err()}
}

// decode reads the JSON of an answer.
func (ans answer) decode(v any) error {
	if err := json.Unmarshal(ans.body, v); err != nil {
		return fmt.Errorf("%s gave an answer that is not understood: %w; is it a TanoDB server of this version?", ans.base, err)
	}
	return nil
}

// quorumValue is a quorum as a flag.
type quorumValue struct{ kv.Quorum }

// UnmarshalText reads a number or one of Riak's words.
func (q *quorumValue) UnmarshalText(b []byte) (err error) {
	q.Quorum, err = kv.ParseQuorum(string(b))
	return err
}

// set adds the quorum to a query if it was given.
func (q quorumValue) set(query url.Values, name string) {
	if q.Quorum != kv.Default {
		query.Set(name, q.String())
	}
}

// readFlags are the quorum flags of a read.
type readFlags struct {
	R            quorumValue `name:"r" short:"r" help:"Replicas that must answer: a number, one, quorum or all." placeholder:"N"`
	PR           quorumValue `name:"pr" help:"Primaries among them." placeholder:"N"`
	NodeConfirms int         `help:"Distinct nodes that must answer, or store." placeholder:"N"`
	sloppyFlag
}

// sloppyFlag is the flag of who may stand in for a primary.
type sloppyFlag struct {
	NoSloppy bool `help:"Ask primaries only: no other node stands in for one that is down."`
}

func (f sloppyFlag) set(query url.Values) {
	if f.NoSloppy {
		query.Set("sloppy_quorum", "false")
	}
}

func (f readFlags) set(query url.Values) {
	f.R.set(query, "r")
	f.PR.set(query, "pr")
	setInt(query, "node_confirms", f.NodeConfirms)
	f.sloppyFlag.set(query)
}

// writeFlags are the quorum flags of a write.
type writeFlags struct {
	W  quorumValue `name:"w" short:"w" help:"Replicas that must store it: a number, one, quorum or all." placeholder:"N"`
	DW quorumValue `name:"dw" help:"Replicas that must store it durably." placeholder:"N"`
	PW quorumValue `name:"pw" help:"Primaries among those that store it." placeholder:"N"`
}

func (f writeFlags) set(query url.Values) {
	f.W.set(query, "w")
	f.DW.set(query, "dw")
	f.PW.set(query, "pw")
}

func setInt(query url.Values, name string, n int) {
	if n != 0 {
		query.Set(name, strconv.Itoa(n))
	}
}

// timing is the part of a query that every request of a key carries.
func (a *app) timing() url.Values {
	return url.Values{
		"timeout": {strconv.FormatInt(a.timeout.Milliseconds(), 10)},
		"linger":  {strconv.FormatInt(linger.Milliseconds(), 10)},
	}
}
