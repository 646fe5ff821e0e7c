package httpd

import (
	"context"
	"errors"
	"net/http"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/server/audit"
)

// strangerKey is where it stands in a context that a probe is of somebody who is told little.
type strangerKey struct{}

// isStranger reports whether somebody is told little.
func isStranger(ctx context.Context) bool { return ctx.Value(strangerKey{}) != nil }

// probe serves what is open to everybody: in few words to who may not see how the node is.
func (g *Guard) probe(handler http.Handler, w http.ResponseWriter, r *http.Request, lines *audit.Log) {
	if !g.seesAll(r, lines) {
		r = r.WithContext(context.WithValue(r.Context(), strangerKey{}, true))
	}
	handler.ServeHTTP(w, r)
}

// seesAll reports whether somebody may see how the node is. Who fails to log in is told of, as
// everywhere: the answer would tell him that he has guessed right.
func (g *Guard) seesAll(r *http.Request, lines *audit.Log) bool {
	switch {
	case g.elsewhere(r) != "":
		return false
	case !g.Gate.Secured():
		return !g.OwnMachine || fromHere(r)
	case r.TLS == nil:
		return false
	}
	l := login(r)
	if l.User == "" {
		return false
	}
	ctx, cancel := context.WithTimeout(r.Context(), loginPatience)
	defer cancel()
	user, err := g.Gate.Login(ctx, l)
	if err != nil {
		if errors.Is(err, tanodb.ErrLogin) {
			lines.Refused(r.RemoteAddr, "a login has failed", "user", clipped(l.User))
		}
		return false
	}
	return mayAll(user, onAny(tanodb.PermReadAdmin)) == nil
}

// shortReadiness is what strangers are told of tanodb.Readiness. It has no numbers: one that
// is left out cannot be taken for none.
type shortReadiness struct {
	Ready   bool          `json:"ready"`
	Reasons []shortReason `json:"reasons"`
}

type shortReason struct {
	What string `json:"what"`
}

func shortened(r tanodb.Readiness) shortReadiness {
	s := shortReadiness{Ready: r.Ready, Reasons: []shortReason{}}
	for _, why := range r.Reasons {
		s.Reasons = append(s.Reasons, shortReason{why.What})
	}
	return s
}
