package httpd

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

const (
	asStream = "Content-Type: " + objectStream
)

func TestBackupRoutes(t *testing.T) {
	f := newFake()
	c := newClient(t, f)
	if w := c.want(http.StatusOK, "GET", "/_tanodb/backup", ""); !strings.Contains(w.Body.String(), `"partitions":8`) {
		t.Errorf("%s", w.Body)
	}
	w := c.want(http.StatusOK, "POST", "/_tanodb/backup/home", `{"home":3,"known":[{"from":0,"to":64,"sum":"00000000000000ff","chunks":[]}]}`, asJSON)
	c.header(w, "Content-Type", objectStream)
	c.body(w, "stream")
	w = c.want(http.StatusOK, "POST", "/_tanodb/restore", "12345", asStream)
	if !strings.Contains(w.Body.String(), `"objects":5`) {
		t.Errorf("%s", w.Body)
	}
	w = c.want(http.StatusOK, "POST", "/_tanodb/restore/types", `{"types":[{"name":"t","active":true,"props":{}}],"buckets":[]}`, asJSON)
	if !strings.Contains(w.Body.String(), `"done":["made"]`) {
		t.Errorf("%s", w.Body)
	}
	if diff := cmp.Diff([]string{"backup 3 1", "restore 12345", "types 1"}, f.orders); diff != "" {
		t.Errorf("(-want +asked of the node):\n%s", diff)
	}
}

// What is not meant changes nothing: no page in a browser can send it.
func TestBackupRoutesRefuse(t *testing.T) {
	f := newFake()
	c := newClient(t, f)
	for _, path := range []string{"/_tanodb/backup/home", "/_tanodb/restore", "/_tanodb/restore/types"} {
		c.want(http.StatusMethodNotAllowed, "GET", path, "")
		c.want(http.StatusUnsupportedMediaType, "POST", path, "{}", plain)
	}
	c.want(http.StatusMethodNotAllowed, "POST", "/_tanodb/backup", "{}", asJSON)
	for _, body := range []string{"nonsense", `{"home":1,"what":2}`, `{"home":1} {}`, `{"home":1,"known":[{"sum":"ff"}]}`} {
		c.want(http.StatusBadRequest, "POST", "/_tanodb/backup/home", body, asJSON)
	}
	c.want(http.StatusRequestEntityTooLarge, "POST", "/_tanodb/backup/home", strings.Repeat(" ", maxBackupOrder+1), asJSON)
	if len(f.orders) > 0 {
		t.Errorf("%q", f.orders)
	}
	// What a body says to be is taken of the memory for bodies, and given back.
	c = &client{t, New(f, Options{MaxBodies: 10})}
	for range 3 {
		c.want(http.StatusOK, "POST", "/_tanodb/restore", "12345", asStream)
	}
	for range 2 {
		w := c.want(http.StatusServiceUnavailable, "POST", "/_tanodb/restore", "12345678901", asStream)
		if !strings.Contains(w.Body.String(), `"`+string(api.CodeOverload)+`"`) {
			t.Errorf("%s", w.Body)
		}
	}
}

func TestBackupRoutesFail(t *testing.T) {
	f := newFake()
	c := newClient(t, f)
	f.fail = fmt.Errorf("%w: two are down", kv.ErrQuorum)
	c.want(http.StatusServiceUnavailable, "POST", "/_tanodb/backup/home", `{"home":3}`, asJSON)
	c.want(http.StatusServiceUnavailable, "POST", "/_tanodb/restore", "12345", asStream)
	f.fail = errors.Join(kv.ErrInvalid)
	c.want(http.StatusBadRequest, "POST", "/_tanodb/restore/types", `{}`, asJSON)
	f.failLate = true // then the stream says so
	c.body(c.want(http.StatusOK, "POST", "/_tanodb/backup/home", `{"home":3}`, asJSON), "stream")
}
