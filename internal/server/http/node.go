package httpd

import (
	"cmp"
	"net/http"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

// getExplained answers GET of a key on our own routes, with all replies.
func (h *handler) getExplained(w http.ResponseWriter, r *http.Request, t target, p *params) {
	obj, err := h.node.Get(r.Context(), t.key, p.read())
	if err != nil {
		h.fail(w, t, err, obj.Context, obj.Replies)
		return
	}
	writeJSON(w, http.StatusOK, api.NewObject(obj))
}

// explain answers with the preference list of a key.
func (h *handler) explain(w http.ResponseWriter, t target) {
	writeJSON(w, http.StatusOK, api.NewExplanation(h.node.Explain(t.key)))
}

// preflist answers with those vnodes that would be asked for a key now, as Riak shows them.
func (h *handler) preflist(w http.ResponseWriter, r *http.Request, t target) {
	if _, err := h.node.BucketProps(r.Context(), t.bucket()); err != nil {
		h.refuse(w, t, err) // there is no such type
		return
	}
	type vnode struct {
		Partition int    `json:"partition"`
		Node      string `json:"node"`
		Primary   bool   `json:"primary"`
	}
	list := []vnode{}
	for _, reply := range h.node.Explain(t.key) {
		if reply.Result != kv.Down && reply.Role != kv.Incoming {
			list = append(list, vnode{reply.Partition.Index, reply.Node, reply.Role == kv.Primary})
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"preflist": list})
}

// ping answers that this node serves; on our own routes, that a partition does.
func (h *handler) ping(w http.ResponseWriter, r *http.Request, t target) {
	if !t.own {
		writeText(w, http.StatusOK, "OK")
		return
	}
	reply, err := h.node.Ping(r.Context())
	if err != nil {
		h.refuse(w, t, err)
		return
	}
	writeJSON(w, http.StatusOK, api.NewPing(reply))
}

// health answers whether the process is of any use, for who would restart it otherwise. It
// asks nobody: that other nodes are down is no reason to restart this one.
func (h *handler) health(w http.ResponseWriter, r *http.Request) {
	if err := h.node.Alive(); err != nil {
		text := "the node has failed and must be started again"
		if !isStranger(r.Context()) {
			text += ": " + err.Error()
		}
		writeText(w, http.StatusServiceUnavailable, text+"\n")
		return
	}
	writeText(w, http.StatusOK, "OK\n")
}

// readiness answers whether this node is to be sent requests, and why not.
func (h *handler) readiness(w http.ResponseWriter, r *http.Request) {
	how := h.node.Readiness()
	status := http.StatusOK
	if !how.Ready {
		status = http.StatusServiceUnavailable
	}
	if isStranger(r.Context()) {
		writeJSON(w, status, shortened(how))
		return
	}
	writeJSON(w, status, how)
}

// defaultHot is how many keys of each kind are told of where nothing is said of it.
const defaultHot = 20

// hot answers with the keys that stand out on this node.
func (h *handler) hot(w http.ResponseWriter, r *http.Request, t target) {
	p, err := h.params(r, t)
	if err != nil {
		h.refuse(w, t, err)
		return
	}
	writeJSON(w, http.StatusOK, api.NewHot(h.node.HotKeys(cmp.Or(p.limit, defaultHot))))
}

// resources are what is served, by the names that clients look for.
var resources = map[string]string{
	"riak_kv_wm_buckets":     "/buckets",
	"riak_kv_wm_index":       "/buckets",
	"riak_kv_wm_bucket_type": "/types",
	"riak_kv_wm_counter":     "/buckets",
	"riak_kv_wm_crdt":        "/types",
	"riak_kv_wm_object":      "/buckets",
	"riak_kv_wm_keylist":     "/buckets",
	"riak_kv_wm_link_walker": "/buckets",
	"riak_kv_wm_mapred":      "/mapred",
	"riak_kv_wm_ping":        "/ping",
	"riak_kv_wm_preflist":    "/buckets",
	"riak_kv_wm_props":       "/buckets",
	"riak_kv_wm_stats":       "/stats",
}

// root answers with the resources.
func (h *handler) root(w http.ResponseWriter) {
	w.Header()["Link"] = []string{`</buckets>; rel="riak_kv_wm_object", </buckets>; rel="riak_kv_wm_keylist", </buckets>; rel="riak_kv_wm_link_walker", </mapred>; rel="riak_kv_wm_mapred", </ping>; rel="riak_kv_wm_ping", </stats>; rel="riak_kv_wm_stats", </buckets>; rel="riak_kv_wm_counter", </types>; rel="riak_kv_wm_crdt", </types>; rel="riak_kv_wm_bucket_type", </buckets>; rel="riak_kv_wm_props", </buckets>; rel="riak_kv_wm_index", </buckets>; rel="riak_kv_wm_preflist", </buckets>; rel="riak_kv_wm_buckets"`}
	writeJSON(w, http.StatusOK, resources)
}
