package httpd

import (
	"net/http"
	"strings"
)

// Riak's first names of its routes, which old clients still use. They know no bucket
// types, and a bucket shows its properties and its keys in one answer:
//
//	GET                 /riak?buckets=true   the buckets; with stream, in pieces
//	GET PUT             /riak/B              the properties; ?props=false leaves them out
//	GET                 /riak/B?keys=true    the keys too; with stream, in pieces
//	POST                /riak/B              a write whose key the server chooses
//	GET HEAD PUT POST DEL  /riak/B/K
//	GET HEAD               /riak/B/K/BUCKET,TAG,KEEP/…   a link walk

// oldPrefix begins their paths.
const oldPrefix = "riak/"

var oldMethods = []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost}

// oldNames reads B or B/K.
func oldNames(path string) (target, error) {
	t := target{old: true, resource: oldBucket}
	name, key, _ := strings.Cut(path, "/")
	var err error
	if t.key.Bucket, err = t.unescape("bucket", name); err != nil {
		return t, err
	}
	if key == "" { // Riak overlooks a slash at the end
		return t, t.bucket().Validate()
	}
	key, steps, walked := strings.Cut(key, "/")
	t.resource = object
	if t.key.Name, err = t.unescape("key", key); err != nil {
		return t, err
	}
	if err = t.key.Validate(); err != nil || !walked {
		return t, err
	}
	return t.walks(steps)
}

// oldBucket serves a bucket under its old name.
func (h *handler) oldBucket(w http.ResponseWriter, r *http.Request, t target) {
	p, err := h.params(r, t)
	if err != nil {
		h.refuse(w, t, err)
		return
	}
	listed := p.keys == keysAll || p.keys == keysStream
	switch {
	case r.Method == http.MethodPost:
		h.create(w, r, t, p)
	case r.Method == http.MethodPut || !listed && !p.noProps:
		h.bucketProps(w, r, t)
	case !listed:
		h.refuse(w, t, errNoRoute) // neither keys nor properties are asked for
	default:
		h.oldList(w, r, t, p)
	}
}

// oldList answers with the keys, and the properties unless they are left out.
func (h *handler) oldList(w http.ResponseWriter, r *http.Request, t target, p *params) {
	var shown *namedProps
	if !p.noProps {
		props, err := h.node.BucketProps(r.Context(), t.bucket())
		if err != nil {
			h.refuse(w, t, err)
			return
		}
		shown = &namedProps{t.key.Bucket, props}
	}
	h.list(w, r, t, p, shown)
}
