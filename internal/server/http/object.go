package httpd

import (
	"bytes"
	"crypto/rand"
	"errors"
	"net/http"
	"strconv"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

// get answers GET and HEAD of a key on Riak's routes.
func (h *handler) get(w http.ResponseWriter, r *http.Request, t target, p *params) {
	o := p.read()
	o.Head = r.Method == http.MethodHead
	obj, err := h.read(r, t, o)
	if err != nil {
		h.fail(w, t, err, obj.Context, obj.Replies)
		return
	}
	if conditional(r.Header) {
		if err := unmet(r, &obj); err != nil {
			h.conditionFailed(w, t, &obj, err)
			return
		}
	}
	h.show(w, r, t, p, &obj, http.StatusOK)
}

// read reads a key as Riak's routes show it: with the tombstones that Riak would still have
// beside its values.
func (h *handler) read(r *http.Request, t target, o kv.ReadOptions) (kv.Object, error) {
	o.Tombstones = true
	obj, err := h.node.Get(r.Context(), t.key, o)
	if err != nil {
		obj.Values = nil
		return obj, err
	}
	obj.Values = api.Shown(obj.Values, func() kv.Properties {
		props, err := h.node.BucketProps(r.Context(), t.bucket())
		if err != nil {
			return nil // the type is gone since the read
		}
		return props
	})
	return obj, nil
}

// conditionFailed answers a request whose precondition does not hold.
func (h *handler) conditionFailed(w http.ResponseWriter, t target, obj *kv.Object, err error) {
	if err != error(errNotModified) {
		h.refuse(w, t, err)
		return
	}
	head := w.Header()
	setObject(head, obj)
	setLinks(head, t, nil)
	head["Etag"] = []string{etag(obj)}
	head["Last-Modified"] = []string{httpDate(lastModified(obj.Values))}
	w.WriteHeader(http.StatusNotModified)
}

// show answers with what a key holds: its value, the sibling that was chosen,
// or all siblings.
func (h *handler) show(w http.ResponseWriter, r *http.Request, t target, p *params, obj *kv.Object, status int) {
	v := &obj.Values[0]
	if p.vtag != "" {
		if v = chosen(obj.Values, p.vtag); v == nil {
			h.refuse(w, t, errVTag)
			return
		}
	} else if len(obj.Values) > 1 {
		showSiblings(w, r, t, obj)
		return
	}
	head := w.Header()
	setObject(head, obj)
	setValue(head, v)
	setLinks(head, t, v.Meta)
	if r.Method != http.MethodHead {
		head["Content-Length"] = []string{strconv.Itoa(len(v.Data))}
	}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(v.Data) // a client that is gone is nobody's fault
	}
}

// chosen is the value with this version tag; nil: there is none.
func chosen(vs []kv.Value, vtag string) *kv.Value {
	for i := range vs {
		if vs[i].VTag == vtag {
			return &vs[i]
		}
	}
	return nil
}

// put answers PUT and POST of a key.
func (h *handler) put(w http.ResponseWriter, r *http.Request, t target, p *params) {
	receipt, err := h.write(w, r, t, p)
	switch {
	case t.own && err == nil:
		writeJSON(w, http.StatusOK, api.NewReceipt(receipt))
	case err != nil:
		h.fail(w, t, err, nil, receipt.Replies)
	default:
		h.written(w, r, t, p, receipt, http.StatusNoContent)
	}
}

// create answers POST to a bucket: a put whose key is chosen here.
func (h *handler) create(w http.ResponseWriter, r *http.Request, t target, p *params) {
	t.resource = object
	t.key.Name = rand.Text()
	receipt, err := h.write(w, r, t, p)
	if err != nil {
		h.fail(w, t, err, nil, receipt.Replies)
		return
	}
	w.Header()["Location"] = []string{t.keyPath(t.key.Name)}
	h.written(w, r, t, p, receipt, http.StatusCreated)
}

// written answers a write that was done, with the body if that was asked for.
// Without the body there is no context either: it would cover siblings that the
// client has not seen.
func (h *handler) written(w http.ResponseWriter, r *http.Request, t target, p *params, receipt kv.Receipt, status int) {
	if !p.returnBody || len(receipt.Values) == 0 {
		w.Header()["Content-Type"] = r.Header["Content-Type"] // as Riak: of what was stored
		w.WriteHeader(status)
		return
	}
	if status == http.StatusNoContent {
		status = http.StatusOK
	}
	obj := kv.Object{Values: receipt.Values, Context: receipt.Context}
	h.show(w, r, t, p, &obj, status)
}

// write does what a PUT or POST asks for.
func (h *handler) write(w http.ResponseWriter, r *http.Request, t target, p *params) (kv.Receipt, error) {
	head := r.Header
	switch {
	case first(head, "Content-Type") == "" && !t.own:
		return kv.Receipt{}, errContentType
	case p.asIs:
		return kv.Receipt{}, errAsIs
	}
	v, err := parseValue(head, nil)
	if err != nil {
		return kv.Receipt{}, err
	}
	links, err := parseLinks(head, t)
	if err != nil {
		return kv.Receipt{}, err
	}
	v.Meta = append(v.Meta, links...)
	seen, err := parseContext(head)
	if err != nil {
		return kv.Receipt{}, err
	}
	id, err := parseRequestID(head)
	if err != nil {
		return kv.Receipt{}, err
	}
	data, release, err := h.body(w, r)
	defer release()
	if err != nil {
		return kv.Receipt{}, err
	}
	v.Data = data
	o := p.write(seen)
	o.RequestID = id
	if err = h.condition(r, t, p, &o); err != nil {
		return kv.Receipt{}, err
	}
	receipt, err := h.node.Put(r.Context(), t.key, v, o)
	return receipt, conditionError(r, err)
}

// condition makes a write depend on its preconditions, if it has any. Those that the
// store does not know are looked at here, by a read before the write, which is then
// made only over what was read. A write that brings a context of something else is
// made as that says.
func (h *handler) condition(r *http.Request, t target, p *params, o *kv.WriteOptions) error {
	switch {
	case !conditional(r.Header):
		return nil
	case r.Method != http.MethodDelete && only(r.Header, "If-None-Match") && first(r.Header, "If-None-Match") == "*":
		o.IfNoneMatch = true
		return nil
	}
	read := p.read()
	read.Head, read.Linger = true, 0
	obj, err := h.read(r, t, read)
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return err
	}
	if err := unmet(r, &obj); err != nil {
		return err
	}
	if len(o.Context) == 0 {
		o.Context = obj.Context
	}
	o.IfNotModified = len(obj.Values) > 0 && bytes.Equal(o.Context, obj.Context)
	o.IfNoneMatch = len(obj.Values) == 0 && r.Method != http.MethodDelete
	return nil
}

// conditionError is the error of a write whose precondition did not hold when it was
// made, in the words of the header that it came with.
func conditionError(r *http.Request, err error) error {
	switch {
	case !conditional(r.Header), !errors.Is(err, kv.ErrExists) && !errors.Is(err, kv.ErrModified):
		return err
	case first(r.Header, "X-Riak-If-Not-Modified") != "":
		return errModified
	}
	return errCondition
}

// delete answers DELETE of a key.
func (h *handler) delete(w http.ResponseWriter, r *http.Request, t target, p *params) {
	receipt, err := h.remove(r, t, p)
	switch {
	case err != nil:
		h.fail(w, t, err, receipt.Context, receipt.Replies)
	case t.own:
		writeJSON(w, http.StatusOK, api.NewReceipt(receipt))
	default:
		writeNoContent(w, textPlain)
	}
}

// remove does what a DELETE asks for.
func (h *handler) remove(r *http.Request, t target, p *params) (kv.Receipt, error) {
	seen, err := parseContext(r.Header)
	if err != nil {
		return kv.Receipt{}, err
	}
	id, err := parseRequestID(r.Header)
	if err != nil {
		return kv.Receipt{}, err
	}
	o := p.remove(seen)
	o.RequestID = id
	if err = h.condition(r, t, p, &o); err != nil {
		return kv.Receipt{}, err
	}
	receipt, err := h.node.Delete(r.Context(), t.key, o)
	return receipt, conditionError(r, err)
}
