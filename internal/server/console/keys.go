package console

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/kv"
)

const (
	keysPage    = 100             // buckets or keys on a page
	askWithin   = 5 * time.Second // for each thing that the explorer asks for
	maxPreview  = 4 << 10         // bytes of a value that are shown
	maxSiblings = 50              // values that are shown
	maxPairs    = 50              // of metadata or of index entries
	defaultType = "default"       // the name of the bucket type that has none
	keysTitle   = "/keys"         // the page
)

// explorer is the page of buckets and keys.
type explorer struct {
	Types                 []tanodb.BucketType
	Type, Bucket, Key     string
	Escaped               bool // the names above are percent-encoded, since they could not be typed
	HasBucket, HasKey     bool
	Buckets, Keys         []string
	NextBuckets, NextKeys string // links
	Error                 string
	Object                *shownObject
}

// shownObject is a key with all that is known of it.
type shownObject struct {
	Values   []shownValue
	More     int // values that are not shown
	NotFound bool
	Clock    []tanodb.ClockEntry
	Holdings []tanodb.Holding
}

// shownValue is a value, or the beginning of it.
type shownValue struct {
	kv.Value
	Text string // of Data
	Hex  bool   // Text is a hex dump
	Cut  bool   // it is not all
	Size int64
}

// keysAt is the page of a type, a bucket or a key.
func keysAt(t, bucket, key string) string {
	return query(keysTitle, "type", t, "bucket", bucket, "key", key)
}

// keys serves the explorer.
func (c *Console) keys(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	n, err := readNames(q.Get)
	e := explorer{Type: n.Type, Bucket: n.Bucket, Key: n.Name, HasBucket: n.Bucket != "", HasKey: n.Bucket != "" && n.Name != ""}
	if err == nil {
		err = c.explore(r.Context(), &e, q.Get("token"))
	}
	status := http.StatusOK
	if err != nil {
		e.Error, status = err.Error(), statusOf(err)
	}
	c.write(w, status, page{Name: "keys", Body: e})
}

// statusOf is the status of a page that could not be made whole.
func statusOf(err error) int {
	if errors.Is(err, kv.ErrInvalid) || errors.Is(err, kv.ErrBucketType) {
		return http.StatusBadRequest
	}
	return http.StatusServiceUnavailable
}

// explore fills in what is asked for: the buckets of a type, the keys of a bucket, or one key.
func (c *Console) explore(ctx context.Context, e *explorer, token string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	if e.Types, err = c.node.BucketTypes(ctx); err != nil {
		return err
	}
	o := kv.ListOptions{Limit: keysPage, Token: token}
	switch {
	case e.HasKey:
		e.Object, err = c.object(ctx, kv.Key{Type: e.Type, Bucket: e.Bucket, Name: e.Key})
	case e.HasBucket:
		var page kv.KeyPage
		page, err = c.node.Keys(ctx, kv.Bucket{Type: e.Type, Name: e.Bucket}, o)
		if e.Keys = page.Keys; page.Next != "" {
			e.NextKeys = query(keysTitle, "type", e.Type, "bucket", e.Bucket, "token", page.Next)
		}
	default:
		var page kv.BucketPage
		page, err = c.node.Buckets(ctx, e.Type, o)
		if e.Buckets = page.Buckets; page.Next != "" {
			e.NextBuckets = query(keysTitle, "type", e.Type, "token", page.Next)
		}
	}
	return err
}

// object finds out what there is of a key: first what each vnode holds, since a read may
// repair what it finds, and then the values.
func (c *Console) object(ctx context.Context, k kv.Key) (*shownObject, error) {
	o := &shownObject{}
	var err error
	if o.Holdings, err = c.node.Holdings(ctx, k); err != nil {
		return nil, err
	}
	obj, err := c.node.Get(ctx, k, kv.ReadOptions{Timeout: askWithin, Tombstones: true})
	o.NotFound = errors.Is(err, kv.ErrNotFound)
	if err != nil && !o.NotFound {
		return o, err
	}
	if o.Clock, err = tanodb.ReadClock(k, obj.Context); err != nil {
		return o, err
	}
	for _, v := range obj.Values[:min(len(obj.Values), maxSiblings)] {
		o.Values = append(o.Values, showValue(v))
	}
	o.More = len(obj.Values) - len(o.Values)
	return o, nil
}

// showValue makes a value fit for a page.
func showValue(v kv.Value) shownValue {
	s := shownValue{Value: v, Size: int64(len(v.Data))}
	data := v.Data
	if len(data) > maxPreview {
		data, s.Cut = data[:maxPreview], true
		for len(data) > 0 && !utf8.RuneStart(v.Data[len(data)]) { // not in the middle of a character
			data = data[:len(data)-1]
		}
	}
	if s.Text = string(data); !isText(s.Text) {
		s.Text, s.Hex = hex.Dump(data), true
	}
	s.Meta, s.Indexes = v.Meta[:min(len(v.Meta), maxPairs)], v.Indexes[:min(len(v.Indexes), maxPairs)]
	return s
}

// isText reports whether bytes can be read by people.
func isText(s string) bool {
	return utf8.ValidString(s) && !slices.ContainsFunc([]rune(s), func(r rune) bool {
		return !unicode.IsPrint(r) && r != '\n' && r != '\t' && r != '\r'
	})
}
