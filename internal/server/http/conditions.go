package httpd

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"github.com/tanodb/tanodb/kv"
)

// The headers that make a request depend on what the key holds.
var conditionHeaders = []string{"If-None-Match", "If-Match", "If-Modified-Since", "If-Unmodified-Since", "X-Riak-If-Not-Modified"}

// conditional reports whether a request depends on what the key holds.
func conditional(h http.Header) bool {
	for _, name := range conditionHeaders {
		if len(h[name]) > 0 {
			return true
		}
	}
	return false
}

// only reports whether this is the one precondition of a request.
func only(h http.Header, name string) bool {
	for _, other := range conditionHeaders {
		if other != name && len(h[other]) > 0 {
			return false
		}
	}
	return len(h[name]) > 0
}

// unmet is the first precondition of a request that does not hold; nil: all do.
// An object without values is absent. A reader whose copy is current gets
// errNotModified.
func unmet(r *http.Request, o *kv.Object) error {
	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	h := r.Header
	exists := len(o.Values) > 0
	tag, modified := "", time.Time{}
	if exists {
		tag, modified = etag(o), lastModified(o.Values).Truncate(time.Second)
	}
	if want := first(h, "If-Match"); want != "" {
		if !exists || !matches(want, tag) {
			return errCondition
		}
	} else if since, ok := date(h, "If-Unmodified-Since"); ok && exists && modified.After(since) {
		return errCondition
	}
	if want := first(h, "If-None-Match"); want != "" {
		if exists && matches(want, tag) {
			if read {
				return errNotModified
			}
			return errCondition
		}
	} else if since, ok := date(h, "If-Modified-Since"); ok && read && exists && !modified.After(since) {
		return errNotModified
	}
	if want := first(h, "X-Riak-If-Not-Modified"); want != "" && !read {
		c, err := base64.StdEncoding.DecodeString(want)
		if err != nil || !bytes.Equal(c, o.Context) {
			return errModified
		}
	}
	return nil
}

// errNotModified answers a reader whose copy is current.
var errNotModified = &requestError{http.StatusNotModified, ""}

// matches reports whether a list of entity tags has this one, or is *.
func matches(list, tag string) bool {
	for want := range strings.SplitSeq(list, ",") {
		want = strings.TrimSpace(want)
		if want == "*" || strings.TrimPrefix(want, "W/") == tag {
			return true
		}
	}
	return false
}

// date is a header that holds a date; one that cannot be read is ignored, as
// HTTP has it.
func date(h http.Header, name string) (time.Time, bool) {
	t, err := http.ParseTime(first(h, name))
	return t, err == nil
}
