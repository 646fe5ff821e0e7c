package httpd

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"

	"github.com/tanodb/tanodb/internal/mapreduce"
	"github.com/tanodb/tanodb/kv"
)

// Link walking: from a key along its links to others, and on along theirs.
//
//	GET  /buckets/B/keys/K/BUCKET,TAG,KEEP/…   and /riak/B/K/BUCKET,TAG,KEEP/…
//
// Each step follows the links to a bucket with a tag; _ stands for any. What a step that
// keeps has come to, 1, is in the answer; a step of 0 only leads on; with _ the last step
// keeps. The answer is multipart/mixed: a part for each step that keeps, which is
// multipart/mixed in turn, a part for each value of the objects.

// The limits of a walk.
const (
	maxSteps  = 32
	maxWalked = 10_000 // objects that one step comes to
	walkPiece = 16     // of them that are in memory at once
)

var (
	errWalk      = badRequest("Invalid link walk. It must be of the form\n/buckets/BUCKET/keys/KEY/BUCKET,TAG,KEEP/...\nwhere _ is any bucket or tag, and KEEP is 0, 1 or _\n")
	errWalkLarge = badRequest("a step of the link walk leads to too many objects\n")
)

// step is one step of a walk.
type step struct {
	bucket, tag string // mapreduce.Any: any
	keep        bool
}

// walks makes the path of a key, and what follows it, one of a walk, or of the key's
// preference list. What has no commas is no walk.
func (t target) walks(steps string) (target, error) {
	if steps == "preflist" && !t.old {
		t.resource = preflist
		return t, nil
	}
	if !strings.Contains(steps, ",") {
		return target{own: t.own}, errNoRoute
	}
	t.resource, t.steps = walk, steps
	return t, nil
}

// walkSteps reads BUCKET,TAG,KEEP/….
func (t target) walkSteps() ([]step, error) {
	words := strings.Split(t.steps, "/")
	if len(words) > maxSteps {
		return nil, errWalk
	}
	var steps []step
	for i, word := range words {
		names := strings.Split(word, ",")
		if len(names) != 3 {
			return nil, errWalk
		}
		var s step
		var err error
		if s.bucket, err = t.unescape("bucket", names[0]); err != nil {
			return nil, errWalk
		}
		if s.tag, err = t.unescape("tag", names[1]); err != nil {
			return nil, errWalk
		}
		switch names[2] {
		case "0", "1":
			s.keep = names[2] == "1"
		case mapreduce.Any:
			s.keep = i == len(words)-1
		default:
			return nil, errWalk
		}
		steps = append(steps, s)
	}
	return steps, nil
}

// walk answers with what the steps come to.
func (h *handler) walk(w http.ResponseWriter, r *http.Request, t target) {
	p, err := h.params(r, t)
	var steps []step
	if err == nil {
		steps, err = t.walkSteps()
	}
	if err != nil {
		h.refuse(w, t, err)
		return
	}
	o := p.read()
	ctx, cancel := context.WithTimeout(r.Context(), cmp.Or(o.Timeout, kv.DefaultTimeout))
	defer cancel()
	head := o
	head.Head = true
	from, err := h.node.Get(ctx, t.key, head)
	if err != nil {
		h.fail(w, t, err, from.Context, from.Replies)
		return
	}
	out := newParts(w)
	if r.Method == http.MethodHead {
		out.begin()
		return
	}
	walked := &walked{seen: map[kv.Key]bool{}}
	err = walked.add(t.key, &from, steps[0])
	for i := range steps {
		if err == nil {
			walked, err = h.takeStep(ctx, t, steps[i:], walked.keys, o, out)
		}
	}
	if err != nil && !out.begun {
		h.refuse(w, t, err)
		return
	}
	if err == nil {
		err = out.end()
	}
	if err != nil {
		out.breakOff(map[string]string{"error": err.Error()})
	}
}

// walked is what a step comes to: each key once.
type walked struct {
	keys []kv.Key
	seen map[kv.Key]bool
}

// add adds where the links of an object lead.
func (w *walked) add(from kv.Key, obj *kv.Object, s step) error {
	for _, l := range mapreduce.Links(obj, s.bucket, s.tag) {
		to := kv.Key{Type: from.Type, Bucket: l.Bucket, Name: l.Key}
		if w.seen[to] {
			continue
		}
		if len(w.keys) == maxWalked {
			return errWalkLarge
		}
		w.seen[to] = true
		w.keys = append(w.keys, to)
	}
	return nil
}

// takeStep reads what the first of the steps comes to, sends it if the step keeps, and
// returns where the next one leads.
func (h *handler) takeStep(ctx context.Context, t target, steps []step, keys []kv.Key, o kv.ReadOptions, out *parts) (*walked, error) {
	keep := steps[0].keep
	o.Head = !keep
	next := &walked{seen: map[kv.Key]bool{}}
	boundary := rand.Text()
	if keep {
		if err := out.send([]byte("\r\n--" + out.boundary + "\r\nContent-Type: multipart/mixed; boundary=" + boundary + "\r\n\r\n")); err != nil {
			return nil, err
		}
	}
	for len(keys) > 0 {
		piece := keys[:min(walkPiece, len(keys))]
		keys = keys[len(piece):]
		objects, errs := mapreduce.Fetch(ctx, h.node, piece, o)
		for i := range objects {
			if errors.Is(errs[i], kv.ErrNotFound) {
				continue // a link may lead nowhere
			}
			if errs[i] != nil {
				return nil, errs[i]
			}
			if keep {
				if err := out.send(walkedObject(t, piece[i], &objects[i], boundary)); err != nil {
					return nil, err
				}
			}
			if len(steps) > 1 {
				if err := next.add(piece[i], &objects[i], steps[1]); err != nil {
					return nil, err
				}
			}
		}
	}
	if keep {
		return next, out.send([]byte("\r\n--" + boundary + "--\r\n"))
	}
	return next, nil
}

// walkedObject is an object in the answer: a part for each value.
func walkedObject(t target, k kv.Key, obj *kv.Object, boundary string) []byte {
	t.key = k
	var b []byte
	for i := range obj.Values {
		v := &obj.Values[i]
		head := http.Header{"Location": {t.keyPath(k.Name)}}
		setContext(head, obj.Context)
		setValue(head, v)
		setLinks(head, t, v.Meta)
		b = append(b, "\r\n--"+boundary+"\r\n"...)
		b = appendHeader(b, head)
		b = append(b, "\r\n"...)
		b = append(b, v.Data...)
	}
	return b
}
