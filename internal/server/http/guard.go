package httpd

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/internal/server/audit"
	"github.com/tanodb/tanodb/kv"
)

// Gate knows who may come in. *tanodb.Node is one.
type Gate interface {
	Secured() bool
	Login(ctx context.Context, l tanodb.Login) (*tanodb.User, error)
}

// Guard is what stands before a handler, and before all that is around it.
type Guard struct {
	Gate Gate

	// OwnMachine: as long as security is not enabled, only those are served who ask from
	// the node's own machine. For nodes that others can reach.
	OwnMachine bool

	// Names are the host names by which this node may be asked without TLS, besides addresses
	// and those that nobody elsewhere can own. For nodes that serve their own machine alone, or
	// whose operator has named all: who keeps strangers out otherwise calls his nodes as he
	// likes, and with TLS the certificate says who they are. Nil: any.
	Names []string

	// Audit is told of what users who administer do, of deletes and of who is refused. Nil:
	// nobody is.
	Audit *slog.Logger
}

// loginPatience is how long somebody who comes in waits for others to be let in.
const loginPatience = 5 * time.Second

// The refusals, in Riak's words where it has them.
const (
	textPlainHTTP = "Security is enabled and Riak does not accept credentials over HTTP. Try HTTPS instead.\n"
	textLogin     = "Unauthorized\n"
	textStranger  = "security is not set up yet: until it is, this node serves its own machine alone; see tanodb security --help\n"
	textBusy      = "overload: too many log in at once\n"
	realm         = `Basic realm="Riak", charset="UTF-8"`
)

// need is what a request needs: a permission on a bucket, on all of a type, or on any.
type need struct {
	permission tanodb.Permission
	bucket     kv.Bucket
	any        bool
}

// onAny are permissions on everything.
func onAny(ps ...tanodb.Permission) []need {
	var all []need
	for _, p := range ps {
		all = append(all, need{permission: p, any: true})
	}
	return all
}

// rule is what the requests of a resource need, by what they do.
type rule struct {
	read, write, remove tanodb.Permission // on the bucket or the type of the path; empty: that of admin
	open                bool              // everybody may
	known               bool              // everybody may who is known
	admin               bool              // tanodb.read_admin to look, tanodb.admin to change
}

// rules are those of all resources. One that is not here is one of administrators.
var rules = map[resource]rule{
	health: {open: true}, readiness: {open: true},
	root: {known: true},
	ping: {known: true},

	object:      {read: tanodb.PermGet, write: tanodb.PermPut, remove: tanodb.PermDelete},
	data:        {read: tanodb.PermGet, write: tanodb.PermPut},
	counter:     {read: tanodb.PermGet, write: tanodb.PermPut},
	bucket:      {read: tanodb.PermListKeys, write: tanodb.PermPut},
	oldBucket:   {read: tanodb.PermGetBucket, write: tanodb.PermSetBucket},
	buckets:     {read: tanodb.PermListBuckets},
	index:       {read: tanodb.PermIndex},
	explain:     {read: tanodb.PermPreflist},
	preflist:    {read: tanodb.PermPreflist},
	bucketProps: {read: tanodb.PermGetBucket, write: tanodb.PermSetBucket, remove: tanodb.PermSetBucket},
	typeProps:   {read: tanodb.PermGetType, write: tanodb.PermSetType},

	stats: {admin: true}, metrics: {admin: true}, status: {admin: true},
	clusterState: {admin: true}, clusterTransfers: {admin: true}, clusterPlan: {admin: true},
	clusterStage: {admin: true}, clusterJoin: {admin: true}, clusterCommit: {admin: true}, clusterClear: {admin: true},
	clusterDown: {admin: true}, clusterRecover: {admin: true}, clusterRepair: {admin: true}, clusterLimits: {admin: true}, clusterDeletes: {admin: true},
	typeList: {admin: true}, typeCreate: {admin: true}, typeActivate: {admin: true}, typeUpdate: {admin: true}, typeReset: {admin: true},
	repairState: {admin: true}, repairPause: {admin: true}, repairResume: {admin: true}, repairVerify: {admin: true},
	settings: {admin: true}, setSetting: {admin: true},
	clusterNodes: {admin: true}, hotKeys: {admin: true},
}

// looks reports whether a method changes nothing.
func looks(method string) bool { return method == http.MethodGet || method == http.MethodHead }

// needs are what a request needs: all of them.
func needs(t target, r *http.Request) []need {
	rule := rules[t.resource]
	b := t.bucket()
	switch {
	case rule.known:
		return nil
	case t.resource == mapred, t.resource == walk:
		// Inputs and links may lead to any bucket.
		return onAny(tanodb.PermMapReduce, tanodb.PermGet)
	case t.resource == backupInfo, t.resource == backupHome, t.resource == restore, t.resource == restoreTypes:
		return onAny(tanodb.PermAdmin) // they read and write everything
	case t.resource == securityState, t.resource == securityChange, rule.admin && !looks(r.Method):
		return onAny(tanodb.PermAdmin)
	case rule.admin:
		return onAny(tanodb.PermReadAdmin)
	}
	var all []need
	add := func(p tanodb.Permission) {
		if p == "" {
			all = append(all, onAny(tanodb.PermAdmin)...)
			return
		}
		all = append(all, need{permission: p, bucket: b})
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		add(rule.read)
		if t.resource == oldBucket && names(r.URL.RawQuery, "keys") {
			add(tanodb.PermListKeys)
		}
	case http.MethodDelete:
		add(rule.remove)
	case http.MethodPost, http.MethodPut:
		if t.resource == oldBucket && r.Method == http.MethodPost {
			add(tanodb.PermPut)
			break
		}
		add(rule.write)
	default:
		add("")
	}
	if !looks(r.Method) && (names(r.URL.RawQuery, "returnbody") || names(r.URL.RawQuery, "returnvalue")) {
		add(tanodb.PermGet) // it reads what others have written too
	}
	return all
}

// names reports whether a query has a parameter. It reads it as parseParams does: what
// net/url would leave out may not be hidden from the guard.
func names(query, name string) bool {
	for pair := range strings.SplitSeq(query, "&") {
		got, _, _ := strings.Cut(pair, "=")
		if got, err := url.QueryUnescape(got); err == nil && got == name {
			return true
		}
	}
	return false
}

// asked is what a request asks for.
type asked struct {
	target target
	routed bool // it names something here
	needs  []need
	open   bool
}

// consoleKeys is the view of the console that shows keys and values.
const consoleKeys = "/" + ownPrefix + "/console/keys"

// ask reads what a request asks for. A path that names nothing here may be one of what
// is around the handler, which is for administrators.
func ask(r *http.Request) asked {
	t, err := parsePath(r.URL.EscapedPath())
	var invalid *kv.InvalidError
	switch {
	case err == nil:
		return asked{t, true, needs(t, r), rules[t.resource].open && looks(r.Method)}
	case errors.As(err, &invalid):
		return asked{target: t, routed: true} // it is refused for its names, whoever asks
	case looks(r.Method) && strings.HasPrefix(r.URL.Path, consoleKeys):
		return asked{target: t, needs: onAny(tanodb.PermReadAdmin, tanodb.PermListBuckets, tanodb.PermListKeys, tanodb.PermGet)}
	case looks(r.Method) && !strings.HasPrefix(r.URL.Path, "/debug/"):
		return asked{target: t, needs: onAny(tanodb.PermReadAdmin)}
	}
	return asked{target: t, needs: onAny(tanodb.PermAdmin)}
}

// Before puts the guard before a handler.
func (g *Guard) Before(handler http.Handler) http.Handler {
	lines := audit.New(g.Audit)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := ask(r)
		if q.open {
			g.probe(handler, w, r, lines)
			return
		}
		if why := g.elsewhere(r); why != "" {
			lines.Refused(r.RemoteAddr, "a request is refused", "method", r.Method, "path", auditPath(r), "why", why)
			deny(w, q.target, http.StatusForbidden, why+"\n")
			return
		}
		if !g.Gate.Secured() {
			if g.OwnMachine && !fromHere(r) {
				deny(w, q.target, http.StatusForbidden, textStranger)
				return
			}
			g.pass(handler, w, r, q, lines, nil)
			return
		}
		user := g.enter(w, r, q, lines)
		if user != nil {
			g.pass(handler, w, r, q, lines, user)
		}
	})
}

// enter lets a user in who may do what he asks for; nil: he was refused.
func (g *Guard) enter(w http.ResponseWriter, r *http.Request, q asked, lines *audit.Log) *tanodb.User {
	if r.TLS == nil {
		w.Header()["Upgrade"] = []string{"TLS/1.2, HTTP/1.1"}
		deny(w, q.target, http.StatusUpgradeRequired, textPlainHTTP)
		return nil
	}
	l := login(r)
	ctx, cancel := context.WithTimeout(r.Context(), loginPatience)
	defer cancel()
	user, err := g.Gate.Login(ctx, l)
	if err == nil {
		err = mayAll(user, q.needs)
	}
	switch {
	case err == nil:
		return user
	case errors.Is(err, kv.ErrOverload):
		w.Header()["Retry-After"] = []string{"1"}
		deny(w, q.target, http.StatusServiceUnavailable, textBusy)
	case errors.Is(err, tanodb.ErrPermission):
		lines.Refused(r.RemoteAddr, "a request is refused", "user", l.User, "method", r.Method, "path", auditPath(r), "why", err.Error())
		text := strings.TrimPrefix(err.Error(), tanodb.ErrPermission.Error()+": ")
		deny(w, q.target, http.StatusForbidden, "Permission denied: "+text+"\n")
	default:
		if l.User != "" || r.Header.Get("Authorization") != "" { // by a certificate too
			lines.Refused(r.RemoteAddr, "a login has failed", "user", clipped(l.User))
		}
		w.Header()["Www-Authenticate"] = []string{realm}
		deny(w, q.target, http.StatusUnauthorized, textLogin)
	}
	return nil
}

// mayAll is the first refusal of what is needed.
func mayAll(u *tanodb.User, all []need) error {
	for _, n := range all {
		var err error
		if n.any {
			err = u.MayAnywhere(n.permission)
		} else {
			err = u.May(n.permission, n.bucket)
		}
		if err != nil {
			return err
		}
	}
	return u.Valid()
}

// login reads who somebody says he is. A certificate alone is enough; a name beside it must
// be the same.
func login(r *http.Request) tanodb.Login {
	var l tanodb.Login
	if addr, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		l.From = addr.Addr()
	}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 && len(r.TLS.PeerCertificates) > 0 {
		l.Certificate = r.TLS.PeerCertificates[0].Subject.CommonName
		l.User = l.Certificate
	}
	if user, password, ok := r.BasicAuth(); ok {
		l.User, l.Password = user, password
	} else if r.Header.Get("Authorization") != "" {
		l.User = "" // whatever it is, it is not understood
	}
	return l
}

// fromHere reports whether a request comes from the node's own machine.
func fromHere(r *http.Request) bool {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	from := remote.Addr().Unmap()
	if from.IsLoopback() {
		return true
	}
	at, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return false
	}
	local, err := netip.ParseAddrPort(at.String())
	return err == nil && local.Addr().Unmap() == from
}

// pass serves a request, and tells the audit of it if it changes anything but values. A nil
// user is nobody.
func (g *Guard) pass(handler http.Handler, w http.ResponseWriter, r *http.Request, q asked, lines *audit.Log, user *tanodb.User) {
	admin := !looks(r.Method) && slices.ContainsFunc(q.needs, func(n need) bool { return n.permission == tanodb.PermAdmin })
	if user != nil {
		r = r.WithContext(tanodb.WithUser(r.Context(), user.Name()))
	}
	if !admin && !setsProps(q.target.resource, r.Method) && r.Method != http.MethodDelete {
		g.whileAllowed(handler, w, r, q, user)
		return
	}
	seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	g.whileAllowed(handler, seen, r, q, user)
	name := ""
	if user != nil {
		name = user.Name()
	}
	lines.Served("user", name, "from", r.RemoteAddr, "method", r.Method, "path", auditPath(r), "status", seen.status)
}

// setsProps reports whether a request may change the properties of a bucket or a type. Below
// /riak a PUT of a bucket does, and a POST makes a key.
func setsProps(on resource, method string) bool {
	switch on {
	case bucketProps, typeProps:
		return !looks(method)
	case oldBucket:
		return !looks(method) && method != http.MethodPost
	}
	return false
}

// statusWriter notes the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// auditPath is the path, which has no secrets, as far as it is worth a line.
func auditPath(r *http.Request) string { return clipped(r.URL.EscapedPath()) }

func clipped(s string) string {
	const most = 512 // bytes
	return s[:min(len(s), most)]
}

// deny refuses a request: JSON on our own routes, text on Riak's.
func deny(w http.ResponseWriter, t target, status int, text string) {
	if !t.own {
		writeText(w, status, text)
		return
	}
	b, err := json.Marshal(api.Error{Text: strings.TrimSuffix(text, "\n"), Code: api.CodeRequest})
	if err != nil {
		writeText(w, status, text)
		return
	}
	w.Header()["Content-Type"] = applicationJSON
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}
