package httpd

import (
	"net/http"
	"unicode/utf8"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

const (
	// listPage is how many keys one piece of a stream has at most.
	listPage = kv.DefaultPage

	// maxList is how many bytes of keys one answer may hold: it is kept until
	// the last key is known, so that an error can be told by the status.
	maxList = 64 << 20
)

// riakKeys is a listing on Riak's routes. Keys that are not UTF-8, which no
// JSON string can hold, stand apart.
type riakKeys struct {
	Props  *namedProps `json:"props,omitempty"` // on the old routes
	Keys   []string    `json:"keys"`
	Base64 [][]byte    `json:"keys_base64,omitempty"`
}

func (l *riakKeys) add(key string) {
	if utf8.ValidString(key) {
		l.Keys = append(l.Keys, key)
		return
	}
	l.Base64 = append(l.Base64, []byte(key))
}

// list answers ?keys=true and ?keys=stream, where such lists are allowed.
func (h *handler) list(w http.ResponseWriter, r *http.Request, t target, p *params, props *namedProps) {
	switch {
	case !h.o.AllowsLists():
		h.refuse(w, t, forbidden("list_keys", p.keys == keysStream))
	case p.keys == keysAll:
		h.listAll(w, r, t, p, props)
	default:
		h.listStream(w, r, t, p, props)
	}
}

// forbidden is the answer to a list that is not allowed, in Riak's words.
func forbidden(job string, stream bool) error {
	if stream {
		job = "stream_" + job
	}
	return &requestError{http.StatusForbidden, "Operation '{riak_kv," + job + "}' is not enabled"}
}

// inMemory counts the names of an answer that goes out at once: those of all such answers
// are in memory, and count as bodies of requests do.
type inMemory struct {
	h    *handler
	size int // bytes; those of all are in h.bodies
}

// add counts so many bytes more. TooMany is the error if they are too many for one answer.
func (m *inMemory) add(n int, tooMany error) error {
	if m.size+n > maxList {
		return tooMany
	}
	if m.h.bodies.Add(int64(n)) > m.h.o.MaxBodies {
		m.h.bodies.Add(int64(-n))
		return errBodies
	}
	m.size += n
	return nil
}

func (m *inMemory) release() { m.h.bodies.Add(int64(-m.size)) }

// listAll answers ?keys=true: all keys at once, after the properties if there are any, or
// an error.
func (h *handler) listAll(w http.ResponseWriter, r *http.Request, t target, p *params, props *namedProps) {
	all := riakKeys{Props: props, Keys: []string{}}
	size := inMemory{h: h}
	defer size.release()
	o := kv.ListOptions{Limit: kv.MaxPage, Timeout: p.timeout}
	for key, err := range kv.AllKeys(r.Context(), h.node, t.bucket(), o) {
		if err == nil {
			err = size.add(len(key), errListLarge)
		}
		if err != nil {
			h.refuse(w, t, err)
			return
		}
		all.add(key)
	}
	writeJSON(w, http.StatusOK, all)
}

// listStream answers ?keys=stream: pieces of the listing as they come. The
// status is out before an error can be known, so that an error is the last
// piece, {"error":"…"}, and the connection breaks off there. Properties are with the first.
func (h *handler) listStream(w http.ResponseWriter, r *http.Request, t target, p *params, props *namedProps) {
	o := kv.ListOptions{Limit: listPage, Timeout: p.timeout}
	for begun := false; ; begun = true {
		page, err := h.node.Keys(r.Context(), t.bucket(), o)
		if err != nil && !begun {
			h.refuse(w, t, err)
			return
		}
		if !begun {
			w.Header()["Content-Type"] = applicationJSON
		}
		keys := newRiakKeys(page.Keys)
		if !begun {
			keys.Props = props
		}
		if err != nil {
			breakOff(w, err)
		}
		writePiece(w, keys)
		if page.Next == "" {
			return
		}
		o.Token = page.Next
	}
}

func newRiakKeys(keys []string) riakKeys {
	l := riakKeys{Keys: []string{}}
	for _, key := range keys {
		l.add(key)
	}
	return l
}

// listPage answers with a page of keys.
func (h *handler) listPage(w http.ResponseWriter, r *http.Request, t target, p *params) {
	page, err := h.node.Keys(r.Context(), t.bucket(), p.list())
	if err != nil {
		h.refuse(w, t, err)
		return
	}
	writeJSON(w, http.StatusOK, api.NewKeys(page))
}

// listReplicas answers with every vnode's own keys.
func (h *handler) listReplicas(w http.ResponseWriter, r *http.Request, t target, p *params) {
	all, err := h.node.ReplicaKeys(r.Context(), t.bucket(), p.list())
	if err != nil {
		h.refuse(w, t, err)
		return
	}
	writeJSON(w, http.StatusOK, api.NewReplicaKeys(all))
}
