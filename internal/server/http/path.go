package httpd

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/tanodb/tanodb/kv"
)

// resource is what a path names.
type resource uint8

const (
	unknown resource = iota
	root
	ping
	health
	readiness
	stats
	metrics
	status
	bucket    // the keys of a bucket
	object    // a key
	explain   // a key's preference list
	preflist  // the same in Riak's words
	oldBucket // a bucket by its old name
	data      // a data type; of a bucket, without a name
	counter   // a counter as in Riak 1.4
	buckets   // the buckets of a type
	index     // a query of a bucket's index
	walk      // what the links of a key lead to
	mapred    // MapReduce

	clusterState
	clusterTransfers
	clusterNodes
	clusterPlan
	clusterStage
	clusterJoin
	clusterCommit
	clusterClear
	clusterDown
	clusterRecover
	clusterRepair
	clusterLimits
	clusterDeletes

	bucketProps
	typeProps
	typeList
	typeCreate
	typeActivate
	typeUpdate
	typeReset

	repairState
	repairPause
	repairResume
	repairVerify

	hotKeys
	settings
	setSetting
	backupInfo
	backupHome
	restore
	restoreTypes

	securityState
	securityChange
)

// target is a path that was understood.
type target struct {
	resource resource
	own      bool   // below /_tanodb/: JSON, and no leniency
	old      bool   // below /riak/: answers have Riak's old names, too
	key      kv.Key // of an object; of a bucket, without a name

	// Of an index.
	field, start, end string
	ranged            bool // end was given

	steps string // of a walk: BUCKET,TAG,KEEP/…
}

func (t target) bucket() kv.Bucket { return kv.Bucket{Type: t.key.Type, Name: t.key.Bucket} }

// ownPrefix is the first segment of TanoDB's own routes.
const ownPrefix = "_tanodb"

// simple are the resources whose path has no names in it.
var simple = map[string]resource{
	"":                     root,
	"ping":                 ping,
	"healthz":              health,
	"readyz":               readiness,
	"stats":                stats,
	"metrics":              metrics,
	"mapred":               mapred,
	"riak":                 buckets, // by its old name
	ownPrefix + "/ping":    ping,
	ownPrefix + "/status":  status,
	ownPrefix + "/metrics": metrics,

	ownPrefix + "/cluster":           clusterState,
	ownPrefix + "/cluster/transfers": clusterTransfers,
	ownPrefix + "/cluster/nodes":     clusterNodes,
	ownPrefix + "/cluster/plan":      clusterPlan,
	ownPrefix + "/cluster/stage":     clusterStage,
	ownPrefix + "/cluster/join":      clusterJoin,
	ownPrefix + "/cluster/commit":    clusterCommit,
	ownPrefix + "/cluster/clear":     clusterClear,
	ownPrefix + "/cluster/down":      clusterDown,
	ownPrefix + "/cluster/recover":   clusterRecover,
	ownPrefix + "/cluster/repair":    clusterRepair,
	ownPrefix + "/cluster/limits":    clusterLimits,
	ownPrefix + "/cluster/deletes":   clusterDeletes,

	ownPrefix + "/types":          typeList,
	ownPrefix + "/types/create":   typeCreate,
	ownPrefix + "/types/activate": typeActivate,
	ownPrefix + "/types/update":   typeUpdate,
	ownPrefix + "/types/reset":    typeReset,

	ownPrefix + "/hot":           hotKeys,
	ownPrefix + "/settings":      settings,
	ownPrefix + "/settings/set":  setSetting,
	ownPrefix + "/backup":        backupInfo,
	ownPrefix + "/backup/home":   backupHome,
	ownPrefix + "/restore":       restore,
	ownPrefix + "/restore/types": restoreTypes,

	ownPrefix + "/security":        securityState,
	ownPrefix + "/security/change": securityChange,

	ownPrefix + "/repair":        repairState,
	ownPrefix + "/repair/pause":  repairPause,
	ownPrefix + "/repair/resume": repairResume,
	ownPrefix + "/repair/verify": repairVerify,
}

// parsePath reads the path of a request as it came, escaped. A path that names
// nothing is errNoRoute; names past the limits are a *kv.InvalidError.
//
// It is done by hand, since http.ServeMux cleans paths: a key may well be "..".
func parsePath(escaped string) (target, error) {
	path := strings.TrimSuffix(strings.TrimPrefix(escaped, "/"), "/")
	var t target
	if path == ownPrefix || strings.HasPrefix(path, ownPrefix+"/") {
		t.own = true
	}
	if r, ok := simple[path]; ok {
		t.resource = r
		return t, nil
	}
	rest := strings.TrimPrefix(escaped, "/")
	if after, ok := strings.CutPrefix(rest, oldPrefix); ok {
		return oldNames(after)
	}
	t.resource = object
	if t.own {
		rest = strings.TrimPrefix(rest, ownPrefix+"/")
		if after, ok := strings.CutPrefix(rest, "explain/"); ok {
			rest, t.resource = after, explain
		}
	}
	return t.names(rest)
}

// names reads [types/T/]buckets/B/keys[/K[/BUCKET,TAG,KEEP…]], buckets/B/counters/K,
// [types/T/]buckets/B/datatypes[/K], [types/T/]buckets/B/props, [types/T/]buckets/B/index/F/V[/V],
// [types/T/]buckets or types/T/props.
func (t target) names(path string) (target, error) {
	var err error
	word, rest, _ := strings.Cut(path, "/")
	if word == "types" {
		var typ string
		typ, rest, _ = strings.Cut(rest, "/")
		if t.key.Type, err = t.unescape("bucket type", typ); err != nil {
			return t, err
		}
		if t.key.Type == "default" {
			t.key.Type = ""
		}
		word, rest, _ = strings.Cut(rest, "/")
		if word == "props" && rest == "" && !t.own {
			t.resource = typeProps
			return t, kv.Bucket{Type: t.key.Type, Name: "b"}.Validate()
		}
	}
	if word == "buckets" && rest == "" && t.resource != explain {
		t.resource = buckets
		return t, kv.Bucket{Type: t.key.Type, Name: "b"}.Validate()
	}
	name, rest, found := strings.Cut(rest, "/")
	keys, rest, named := strings.Cut(rest, "/")
	if word == "buckets" && keys == "props" && rest == "" && t.resource != explain {
		t.resource = bucketProps
		if t.key.Bucket, err = t.unescape("bucket", name); err != nil {
			return t, err
		}
		return t, t.bucket().Validate()
	}
	if word == "buckets" && keys == "index" && named && t.resource != explain {
		if t.key.Bucket, err = t.unescape("bucket", name); err != nil {
			return t, err
		}
		return t.query(rest)
	}
	rest, steps, walked := strings.Cut(rest, "/")
	if word != "buckets" || !found || !t.holds(keys, rest) || walked && (t.own || t.resource != object || rest == "") {
		return target{own: t.own}, errNoRoute
	}
	if t.key.Bucket, err = t.unescape("bucket", name); err != nil {
		return t, err
	}
	if !named || rest == "" && !t.own { // Riak overlooks a slash at the end
		if t.resource == explain {
			return target{own: true}, errNoRoute
		}
		if t.resource == object {
			t.resource = bucket
		}
		return t, t.bucket().Validate()
	}
	if t.key.Name, err = t.unescape("key", rest); err != nil {
		return t, err
	}
	if err = t.key.Validate(); err != nil || !walked {
		return t, err
	}
	return t.walks(steps)
}

// holds reads what of a bucket a path is about.
func (t *target) holds(word, key string) bool {
	switch {
	case word == "keys":
		return true
	case t.resource == explain:
	case word == "datatypes":
		t.resource = data
		return true
	case word == "counters" && t.key.Type == "" && !t.own && key != "":
		t.resource = counter
		return true
	}
	return false
}

// query reads F, F/V or F/V/V of an index.
func (t target) query(path string) (target, error) {
	if !t.own {
		path = strings.TrimSuffix(path, "/") // as Riak does
	}
	words := strings.Split(path, "/")
	if len(words) > 3 {
		return target{own: t.own}, errNoRoute
	}
	t.resource = index
	var err error
	if t.field, err = t.unescape("index field", words[0]); err != nil {
		return t, err
	}
	for i, word := range words[1:] {
		if word == "" {
			continue // a term may be empty
		}
		term := &t.start
		if i > 0 {
			term = &t.end
		}
		if *term, err = t.unescape("index term", word); err != nil {
			return t, err
		}
	}
	t.ranged = len(words) == 3
	return t, t.bucket().Validate()
}

// unescape reads one name of a path.
func (t target) unescape(what, s string) (string, error) {
	if s == "" {
		return "", &kv.InvalidError{What: what, Problem: "cannot be zero-length"}
	}
	unescape := url.PathUnescape
	if !t.own {
		unescape = url.QueryUnescape // Riak's rule: a plus sign is a space
	}
	name, err := unescape(s)
	if err != nil {
		return "", &kv.InvalidError{What: what, Problem: "has a percent sign that begins no escape"}
	}
	return name, nil
}

// riakEscape makes any bytes a segment of one of Riak's paths.
func riakEscape(s string) string {
	return strings.ReplaceAll(url.PathEscape(s), "+", "%2B")
}

// bucketPath is the escaped path of a bucket on Riak's routes, by its old name if the
// request has used that.
func (t target) bucketPath() string {
	switch {
	case t.old:
		return "/" + oldPrefix + riakEscape(t.key.Bucket)
	case t.key.Type != "":
		return "/types/" + riakEscape(t.key.Type) + "/buckets/" + riakEscape(t.key.Bucket)
	}
	return "/buckets/" + riakEscape(t.key.Bucket)
}

// keyPath is the same of a key in the bucket.
func (t target) keyPath(key string) string {
	if t.old {
		return t.bucketPath() + "/" + riakEscape(key)
	}
	return t.bucketPath() + "/keys/" + riakEscape(key)
}

var (
	readMethods   = []string{http.MethodGet, http.MethodHead}
	bucketMethods = []string{http.MethodGet, http.MethodHead, http.MethodPost}
	objectMethods = []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete}
	ownMethods    = []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete}
	propsMethods  = []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete}
	typeMethods   = []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost}
	orderMethods  = []string{http.MethodPost}
)

func (t target) allowed() []string {
	switch {
	case t.resource == object && t.own:
		return ownMethods
	case t.resource == object:
		return objectMethods
	case t.resource == bucket && !t.own, t.resource == mapred:
		return bucketMethods
	case t.resource == data || t.resource == counter:
		return bucketMethods
	case t.resource == bucketProps:
		return propsMethods
	case t.resource == typeProps:
		return typeMethods
	case t.resource == oldBucket:
		return oldMethods
	case orders[t.resource] != nil, t.resource == setSetting, t.resource == backupHome, t.resource == restore:
		return orderMethods
	}
	return readMethods
}

func (t target) allows(method string) bool { return slices.Contains(t.allowed(), method) }

// methods is the value of the Allow header.
func (t target) methods() string { return strings.Join(t.allowed(), ", ") }
