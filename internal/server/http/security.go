package httpd

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/tanodb/tanodb"
)

// The routes of who may do what:
//
//	GET  /_tanodb/security         users, groups, sources and grants; no passwords
//	POST /_tanodb/security/change  a tanodb.SecurityChange
//
// Both are for administrators. A POST must say that it is JSON, as those of the cluster.

// Security is who may do what; see *tanodb.Node.
type Security interface {
	Security() tanodb.SecurityState
	ChangeSecurity(ctx context.Context, c tanodb.SecurityChange) error
}

// changedSecurity is the answer to a change: it does not repeat a password.
type changedSecurity struct {
	Done string `json:"done"`
}

func changeSecurity(ctx context.Context, n Node, c tanodb.SecurityChange) (any, error) {
	return changedSecurity{c.Do}, n.ChangeSecurity(ctx, c)
}

// mayEnable refuses to enable security over a plain connection: nobody could come in by
// it any more.
func mayEnable(r *http.Request, body []byte) error {
	if r.TLS != nil {
		return nil
	}
	var c struct {
		Do string `json:"do"`
	}
	if err := json.Unmarshal(body, &c); err == nil && c.Do == "enable" {
		return badRequest("security cannot be enabled over a plain connection: passwords would not go over it; give the nodes certificates first, with --tls-dir\n")
	}
	return nil
}
