package httpd

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/tanodb/tanodb"
)

// A stream ends soon after what it needs was taken away, and not before; so does one that
// began when nobody was known. What is answered at once is not looked after.
func TestStreamsEndWithTheirGrants(t *testing.T) {
	node := guarded(t)
	change := func(t *testing.T, c tanodb.SecurityChange) {
		t.Helper()
		if err := node.ChangeSecurity(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	grant := tanodb.SecurityChange{Do: "grant", Names: []string{"nobody"}, Permissions: []tanodb.Permission{tanodb.PermReadAdmin}, Any: true}
	change(t, grant)
	user, err := node.Login(t.Context(), login(asUser("GET", "/", "nobody", theirPassword)))
	if err != nil {
		t.Fatal(err)
	}
	again := grant
	grant.Do = "revoke"
	guard := &Guard{Gate: node}
	for _, tt := range []struct {
		name  string
		user  *tanodb.User
		begin tanodb.SecurityChange
		end   tanodb.SecurityChange
		want  error
	}{
		{"of a grant", user, tanodb.SecurityChange{Do: "enable"}, grant, tanodb.ErrPermission},
		{"of nobody", nil, tanodb.SecurityChange{Do: "disable"}, tanodb.SecurityChange{Do: "enable"}, tanodb.ErrLogin},
		{"of a user", user, again, tanodb.SecurityChange{Do: "del-user", Names: grant.Names}, tanodb.ErrLogin},
	} {
		change(t, tt.begin)
		ended := false
		streams := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if tt.user != nil && tanodb.UserOf(r.Context()) != tt.user.Name() {
				t.Errorf("that %s: it is of %q", tt.name, tanodb.UserOf(r.Context()))
			}
			if r.Context().Err() != nil {
				t.Errorf("that %s: it has ended before", tt.name)
			}
			change(t, tt.end)
			select {
			case <-r.Context().Done():
				ended = errors.Is(context.Cause(r.Context()), tt.want)
			case <-time.After(30 * lookAgain):
			}
		})
		r := asUser("GET", "/_tanodb/console/events", "", "")
		guard.pass(streams, nil, r, ask(r), nil, tt.user)
		if !ended {
			t.Errorf("that %s: it does not end, or for another reason", tt.name)
		}
	}
	r := asUser("GET", "/buckets/b/keys/k", "", "")
	guard.whileAllowed(http.HandlerFunc(func(_ http.ResponseWriter, same *http.Request) {
		if same != r {
			t.Error("what is answered at once is looked after")
		}
	}), nil, r, ask(r), nil)
}
