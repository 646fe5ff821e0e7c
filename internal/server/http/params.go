package httpd

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tanodb/tanodb/kv"
)

// params are the parameters of a request. On all routes:
//
//	n_val           use only this many replicas
//	r pr w dw pw rw a number, or one, quorum, all, default; rw stands for r and w of a delete
//	node_confirms   the same, of distinct nodes
//	basic_quorum notfound_ok sloppy_quorum returnbody   true, false or default
//	timeout         milliseconds for the whole request; 0: the default
//	include_context true or false: show the context of a data type; true
//
// On Riak's routes, where others than these are ignored, as there:
//
//	vtag            choose this sibling
//	keys            true or stream: how a bucket is listed
//	props           false: a bucket's old name does not show its properties
//	asis            true: is refused; versions are made here
//	returnvalue     true: answer an increment of a counter with its value
//	buckets         true or stream: how the buckets of a type are listed
//	max_results continuation return_terms stream term_regex pagination_sort   a query of an index
//
// And on our own routes, where others are refused:
//
//	linger          milliseconds to wait for the other replicas once the request is decided
//	head            true: everything but the values' data
//	if_none_match   true: of a write, only if the key holds no live value
//	if_not_modified true: of a write, only if the key holds nothing that its context has not seen
//	tombstones      true: show tombstones that are siblings of live values
//	limit token     a page of keys, of matches or of buckets
//	sort regex      of a query of an index: true: in order; only terms in which it is found
//	replicas        true: every vnode's own keys
type params struct {
	n              int
	r, pr          kv.Quorum
	w, dw, pw      kv.Quorum
	rw             kv.Quorum
	confirms       kv.Quorum // node_confirms as it was given
	nodeConfirms   int       // and in numbers; see handler.params
	basicQuorum    kv.Toggle
	notFoundOK     kv.Toggle
	sloppyQuorum   kv.Toggle
	returnBody     bool
	returnValue    bool
	asIs           bool
	includeContext kv.Toggle
	timeout        time.Duration
	linger         time.Duration
	vtag           string
	keys           string
	noProps        bool
	head           bool
	tombstones     bool
	limit          int
	token          string
	replicas       bool
	sort           bool
	regex          string
	buckets        string
	query          url.Values // what is of indexes on Riak's routes

	ifNoneMatch, ifNotModified bool
}

// The values of the parameter keys.
const (
	keysAll    = "true"
	keysStream = "stream"
)

// errKeysParam answers a listing that does not say how.
var errKeysParam = badRequest("keys query parameter must be true or stream\n")

// params reads the query of a request about the target.
func (h *handler) params(r *http.Request, t target) (*params, error) {
	p, err := parseParams(r.URL.RawQuery, t.own)
	if err != nil {
		return nil, err
	}
	switch p.confirms {
	case kv.Default, kv.None:
	case kv.One:
		p.nodeConfirms = 1
	case kv.Majority:
		p.nodeConfirms = h.replicas(r, t, p)/2 + 1
	case kv.All:
		p.nodeConfirms = h.replicas(r, t, p)
	default:
		p.nodeConfirms = int(p.confirms)
	}
	return p, nil
}

// replicas is how many replicas a request has to do with.
func (h *handler) replicas(r *http.Request, t target, p *params) int {
	if p.n > 0 {
		return p.n
	}
	props, err := h.node.BucketProps(r.Context(), t.bucket())
	if n, isNumber := strconv.Atoi(props.Lookup("n_val")); err == nil && isNumber == nil {
		return n
	}
	return h.node.Status().Replicas // whatever it is, the request fails for another reason
}

// parseParams reads the query of a request. Strict is for our own routes.
func parseParams(query string, strict bool) (*params, error) {
	p := &params{}
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			return nil, badRequest("query parameter has a percent sign that begins no escape\n")
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return nil, badRequest(name + " query parameter has a percent sign that begins no escape\n")
		}
		known, err := p.set(name, value)
		switch {
		case !known && strict:
			err = p.setOwn(name, value)
		case !known:
			err = p.setRiak(name, value)
		}
		if err != nil {
			return nil, err
		}
	}
	return p, nil
}

// set takes one of the parameters that all routes know.
func (p *params) set(name, value string) (known bool, err error) {
	switch name {
	case "r":
		p.r, err = parseQuorum(name, value)
	case "pr":
		p.pr, err = parseQuorum(name, value)
	case "w":
		p.w, err = parseQuorum(name, value)
	case "dw":
		p.dw, err = parseQuorum(name, value)
	case "pw":
		p.pw, err = parseQuorum(name, value)
	case "rw":
		p.rw, err = parseQuorum(name, value)
	case "n_val":
		p.n, err = parseCount(name, value)
	case "node_confirms":
		p.confirms, err = parseQuorum(name, value)
	case "basic_quorum":
		p.basicQuorum, err = parseToggle(name, value)
	case "notfound_ok":
		p.notFoundOK, err = parseToggle(name, value)
	case "sloppy_quorum":
		p.sloppyQuorum, err = parseToggle(name, value)
	case "returnbody":
		p.returnBody, err = parseBool(name, value)
	case "include_context":
		p.includeContext, err = parseToggle(name, value)
	case "timeout":
		p.timeout, err = parseTimeout(value)
	default:
		return false, nil
	}
	return true, err
}

// setRiak takes one of the parameters that only Riak's routes know.
func (p *params) setRiak(name, value string) (err error) {
	switch name {
	case "asis":
		p.asIs, err = parseBool(name, value)
	case "vtag":
		p.vtag = value
	case "keys":
		p.keys = value
	case "props":
		p.noProps = value == "false"
	case "returnvalue":
		p.returnValue = value == "true"
	case "buckets":
		p.buckets = value
	case "max_results", "continuation", "return_terms", "stream", "term_regex", "pagination_sort":
		if p.query == nil {
			p.query = make(url.Values)
		}
		p.query.Set(name, value)
	}
	return err
}

// setOwn takes one of the parameters that only our own routes know.
func (p *params) setOwn(name, value string) (err error) {
	switch name {
	case "linger":
		var ms int
		ms, err = parseCount(name, value)
		p.linger = time.Duration(ms) * time.Millisecond
	case "head":
		p.head, err = parseBool(name, value)
	case "if_none_match":
		p.ifNoneMatch, err = parseBool(name, value)
	case "if_not_modified":
		p.ifNotModified, err = parseBool(name, value)
	case "tombstones":
		p.tombstones, err = parseBool(name, value)
	case "limit":
		p.limit, err = parseCount(name, value)
	case "token":
		p.token = value
	case "sort":
		p.sort, err = parseBool(name, value)
	case "regex":
		p.regex = value
	case "replicas":
		p.replicas, err = parseBool(name, value)
	default:
		return badRequest("there is no query parameter " + strconv.Quote(name) + "\n")
	}
	return err
}

func parseQuorum(name, value string) (kv.Quorum, error) {
	q, err := kv.ParseQuorum(value)
	if err != nil {
		return 0, badRequest(name + " query parameter must be an integer or one of the following words: 'one', 'quorum' or 'all'\n")
	}
	return q, nil
}

// maxCount bounds the numbers of a query, so that they can be multiplied; the
// store has its own limits, all of them smaller.
const maxCount = 1 << 30

func parseCount(name, value string) (int, error) {
	n, err := strconv.ParseUint(value, 10, 64)
	if err == nil && n <= maxCount {
		return int(n), nil
	}
	if value == "default" {
		return 0, nil
	}
	if errors.Is(err, strconv.ErrSyntax) {
		return 0, badRequest(name + " query parameter must be an integer\n")
	}
	return 0, badRequest(name + " query parameter is too large\n")
}

func parseToggle(name, value string) (kv.Toggle, error) {
	switch {
	case strings.EqualFold(value, "true"):
		return kv.On, nil
	case strings.EqualFold(value, "false"):
		return kv.Off, nil
	case strings.EqualFold(value, "default"):
		return kv.Unset, nil
	}
	return 0, badRequest(name + " query parameter must be true or false\n")
}

func parseBool(name, value string) (bool, error) {
	t, err := parseToggle(name, value)
	return t.Or(false), err
}

// parseTimeout reads milliseconds. None are the default, as over Protocol Buffers: clients say
// so that they would wait for ever.
func parseTimeout(value string) (time.Duration, error) {
	ms, err := strconv.ParseUint(value, 10, 64)
	if err != nil || ms > uint64(kv.MaxTimeout/time.Millisecond) {
		return 0, badRequest("Bad timeout value " + strconv.Quote(value) + "\n")
	}
	return time.Duration(ms) * time.Millisecond, nil
}

func (p *params) read() kv.ReadOptions {
	return kv.ReadOptions{
		N:            p.n,
		R:            p.r,
		PR:           p.pr,
		NodeConfirms: p.nodeConfirms,
		NotFoundOK:   p.notFoundOK,
		BasicQuorum:  p.basicQuorum,
		SloppyQuorum: p.sloppyQuorum,
		Head:         p.head,
		Tombstones:   p.tombstones,
		Timeout:      p.timeout,
		Linger:       p.linger,
	}
}

func (p *params) write(c kv.Context) kv.WriteOptions {
	return kv.WriteOptions{
		Context:      c,
		N:            p.n,
		W:            p.w,
		DW:           p.dw,
		PW:           p.pw,
		NodeConfirms: p.nodeConfirms,
		SloppyQuorum: p.sloppyQuorum,
		ReturnBody:   p.returnBody,
		Timeout:      p.timeout,
		Linger:       p.linger,

		IfNoneMatch: p.ifNoneMatch, IfNotModified: p.ifNotModified,
	}
}

// remove is like write, for a delete: it reads too, and rw stands for r and w
// where neither is given.
func (p *params) remove(c kv.Context) kv.WriteOptions {
	o := p.write(c)
	o.R, o.PR = p.r, p.pr
	if o.R == kv.Default && o.W == kv.Default {
		o.R, o.W = p.rw, p.rw
	}
	return o
}

func (p *params) list() kv.ListOptions {
	return kv.ListOptions{Token: p.token, Limit: p.limit, Timeout: p.timeout}
}
