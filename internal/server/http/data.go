package httpd

import (
	"cmp"
	"crypto/rand"
	"errors"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

// Data types, in Riak's JSON: see package api.
//
//	GET HEAD POST  /types/T/buckets/B/datatypes/K           a data type; ?include_context=false, ?returnbody=true
//	POST           /types/T/buckets/B/datatypes             an operation on a key that the server chooses
//	GET POST       /buckets/B/counters/K                    a counter as in Riak 1.4: text; ?returnvalue=true
//	GET POST       /_tanodb/types/T/buckets/B/datatypes/K   with each replica's reply; without a type: a counter

var (
	errDataBody   = &requestError{http.StatusNotAcceptable, "an operation must be application/json\n"}
	errDataAccept = &requestError{http.StatusNotAcceptable, "a data type is application/json\n"}
	errCounter    = &requestError{http.StatusBadRequest, "the body must be an integer of 64 bits\n"}
)

// dataType serves a data type.
func (h *handler) dataType(w http.ResponseWriter, r *http.Request, t target) {
	p, err := h.params(r, t)
	if err == nil && !acceptsJSON(r.Header["Accept"]) {
		err = errDataAccept
	}
	if err != nil {
		h.refuse(w, t, err)
		return
	}
	if t.key.Type == "" && !t.own {
		w.Header()["Location"] = []string{"/buckets/" + riakEscape(t.key.Bucket) + "/counters/" + riakEscape(t.key.Name)}
		writeText(w, http.StatusMovedPermanently, "Counters in the default bucket-type should use the legacy URL\n")
		return
	}
	kind, err := h.kind(r, t)
	switch {
	case err != nil:
		h.refuse(w, t, err)
	case r.Method == http.MethodPost:
		h.operate(w, r, t, p, kind)
	default:
		h.fetch(w, r, t, p, kind)
	}
}

// kind is that of the bucket's objects.
func (h *handler) kind(r *http.Request, t target) (kv.Kind, error) {
	props, err := h.node.BucketProps(r.Context(), t.bucket())
	if err != nil {
		return 0, err
	}
	name := props.Lookup("datatype")
	switch {
	case props.Lookup("allow_mult") != "true":
		return 0, &kv.DataError{Cause: kv.ErrDataType, Text: "Bucket must be allow_mult=true"}
	case name == "" && t.key.Type == "":
		return kv.Counter, nil
	case !kv.ParseKind(name).TopLevel():
		return 0, &kv.DataError{Cause: kv.ErrDataType, Text: "Bucket datatype '" + cmp.Or(name, "undefined") + "' is not a supported type."}
	}
	return kv.ParseKind(name), nil
}

// fetch answers with a data type.
func (h *handler) fetch(w http.ResponseWriter, r *http.Request, t target, p *params, kind kv.Kind) {
	var d kv.Data
	err := kv.ErrNotFound // without a key there is nothing
	if t.key.Name != "" {
		d, err = h.node.Fetch(r.Context(), t.key, p.read())
	}
	if errors.Is(err, kv.ErrNotFound) && !t.own {
		if len(d.Context) > 0 {
			w.Header()["X-Riak-Deleted"] = []string{"true"}
		}
		writeJSON(w, http.StatusNotFound, map[string]string{"type": kind.String(), "error": "notfound"})
		return
	}
	if err != nil {
		h.fail(w, t, err, d.Context, d.Replies)
		return
	}
	h.showData(w, t, p, d, true, http.StatusOK)
}

// showData answers with a data type, with its value if that is valued.
func (h *handler) showData(w http.ResponseWriter, t target, p *params, d kv.Data, valued bool, status int) {
	if !p.includeContext.Or(true) {
		d.Context = nil
	}
	body, err := api.NewData(d, valued, t.own)
	if err != nil {
		h.refuse(w, t, err)
		return
	}
	writeJSON(w, status, body)
}

// operate applies an operation to a data type.
func (h *handler) operate(w http.ResponseWriter, r *http.Request, t target, p *params, kind kv.Kind) {
	status := http.StatusOK
	if t.key.Name == "" {
		t.key.Name, status = rand.Text(), http.StatusCreated
	}
	d, err := h.update(w, r, t, p, kind)
	if err != nil {
		h.fail(w, t, err, nil, d.Replies)
		return
	}
	if status == http.StatusCreated {
		w.Header()["Location"] = []string{t.bucketPath() + "/datatypes/" + t.key.Name}
	}
	if t.own || p.returnBody {
		h.showData(w, t, p, d, p.returnBody, status)
		return
	}
	if status == http.StatusOK {
		status = http.StatusNoContent
	}
	w.Header()["Content-Type"] = applicationJSON
	w.WriteHeader(status)
}

// update does what a POST asks for.
func (h *handler) update(w http.ResponseWriter, r *http.Request, t target, p *params, kind kv.Kind) (kv.Data, error) {
	if media, _, err := mime.ParseMediaType(first(r.Header, "Content-Type")); err != nil || media != "application/json" {
		return kv.Data{}, errDataBody
	}
	id, err := parseRequestID(r.Header)
	if err != nil {
		return kv.Data{}, err
	}
	body, release, err := h.body(w, r)
	defer release()
	if err != nil {
		return kv.Data{}, err
	}
	op, seen, err := api.ParseOp(kind, body)
	if err != nil {
		return kv.Data{}, err
	}
	o := p.write(seen)
	o.RequestID = id
	return h.node.Update(r.Context(), t.key, op, o)
}

// acceptsJSON reports whether the Accept headers, if there are any, take JSON.
func acceptsJSON(accept []string) bool {
	if len(accept) == 0 {
		return true
	}
	for _, header := range accept {
		for part := range strings.SplitSeq(header, ",") {
			media, params, _ := strings.Cut(part, ";")
			switch strings.ToLower(strings.TrimSpace(media)) {
			case "application/json", "application/*", "*/*", "":
				if quality(params) > 0 {
					return true
				}
			}
		}
	}
	return false
}

// counter serves a counter as Riak 1.4 has them: its value is text.
func (h *handler) counter(w http.ResponseWriter, r *http.Request, t target) {
	p, err := h.params(r, t)
	if err != nil {
		h.refuse(w, t, err)
		return
	}
	var d kv.Data
	post := r.Method == http.MethodPost
	if post {
		d, err = h.count(w, r, t, p)
	} else {
		d, err = h.node.Fetch(r.Context(), t.key, p.read())
	}
	switch {
	case errors.Is(err, kv.ErrDataType):
		h.refuse(w, t, &requestError{http.StatusConflict, err.Error() + "\n"})
	case err != nil:
		h.fail(w, t, err, d.Context, d.Replies)
	case post && !p.returnValue:
		writeNoContent(w, textPlain)
	default:
		writeText(w, http.StatusOK, strconv.FormatInt(d.Value.Counter, 10))
	}
}

// count adds what the body of a POST says.
func (h *handler) count(w http.ResponseWriter, r *http.Request, t target, p *params) (kv.Data, error) {
	id, err := parseRequestID(r.Header)
	if err != nil {
		return kv.Data{}, err
	}
	body, release, err := h.body(w, r)
	defer release()
	if err != nil {
		return kv.Data{}, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(body)), 10, 64)
	if err != nil {
		return kv.Data{}, errCounter
	}
	o := p.write(nil)
	o.RequestID, o.ReturnBody = id, p.returnValue
	return h.node.Update(r.Context(), t.key, kv.CounterOp(n), o)
}
