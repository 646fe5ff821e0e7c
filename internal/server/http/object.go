package httpd

import (
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
	obj, err := h.node.Get(r.Context(), t.key, o)
	if err != nil {
		h.fail(w, t, err, obj.Context, nil)
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

// conditionFailed answers a request whose precondition does not hold.
func (h *handler) conditionFailed(w http.ResponseWriter, t target, obj *kv.Object, err error) {
	if err != error(errNotModified) {
		h.refuse(w, t, err)
		return
	}
	head := w.Header()
	setObject(head, t, obj)
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
	setObject(head, t, obj)
	setValue(head, v)
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
	w.Header()["Location"] = []string{bucketPath(t.bucket()) + "/keys/" + t.key.Name}
	h.written(w, r, t, p, receipt, http.StatusCreated)
}

// written answers a write that was done, with the body if that was asked for.
// Without the body there is no context either: it would cover siblings that the
// client has not seen.
func (h *handler) written(w http.ResponseWriter, r *http.Request, t target, p *params, receipt kv.Receipt, status int) {
	if !p.returnBody || len(receipt.Values) == 0 {
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
	if first(head, "Content-Type") == "" && !t.own {
		return kv.Receipt{}, errContentType
	}
	v, err := parseValue(head, nil)
	if err != nil {
		return kv.Receipt{}, err
	}
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
	if seen, err = h.condition(r, t, p, seen); err != nil {
		return kv.Receipt{}, err
	}
	o := p.write(seen)
	o.RequestID = id
	return h.node.Put(r.Context(), t.key, v, o)
}

// condition checks the preconditions of a write, if it has any, by a read before
// it; this does not keep out writes that come in between. It returns the
// context that the write carries: its own, or else what was read and found to
// meet the conditions.
func (h *handler) condition(r *http.Request, t target, p *params, seen kv.Context) (kv.Context, error) {
	if !conditional(r.Header) {
		return seen, nil
	}
	o := p.read()
	o.Head, o.Linger = true, 0
	obj, err := h.node.Get(r.Context(), t.key, o)
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return nil, err
	}
	if err := unmet(r, &obj); err != nil {
		return nil, err
	}
	if len(seen) > 0 {
		return seen, nil
	}
	return obj.Context, nil
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
		w.WriteHeader(http.StatusNoContent)
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
	if seen, err = h.condition(r, t, p, seen); err != nil {
		return kv.Receipt{}, err
	}
	o := p.remove(seen)
	o.RequestID = id
	return h.node.Delete(r.Context(), t.key, o)
}
