package httpd

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/internal/server/view"
	"github.com/tanodb/tanodb/kv"
)

// The routes of the cluster answer with JSON and, but for the timeout, take no
// parameters:
//
//	GET  /_tanodb/cluster            what this node knows of the cluster
//	GET  /_tanodb/cluster/transfers  the transfers of all nodes, with their progress
//	GET  /_tanodb/cluster/nodes      how all nodes are, by their own account; one that does not answer has an error
//	GET  /_tanodb/cluster/plan       what a commit would do now
//	POST /_tanodb/cluster/join       {"address", "zone", "weight", "auto"}: this node into that cluster
//	POST /_tanodb/cluster/stage      {"kind", "node", "with", "zone", "weight"}; leave and set without a node mean this one
//	POST /_tanodb/cluster/commit     {"plan"}
//	POST /_tanodb/cluster/clear      {}
//	POST /_tanodb/cluster/down       {"node"}
//	POST /_tanodb/cluster/recover    {"survivors", "i_know": true}
//	POST /_tanodb/cluster/repair     {"target"}
//	POST /_tanodb/cluster/limits     {"per_node", "bytes_per_second"}
//	POST /_tanodb/cluster/deletes    {"mode", "grace_ns"}
//	GET  /_tanodb/repair             how it stands with the anti-entropy of all nodes
//	POST /_tanodb/repair/pause       {"node"}: of that node; without one, of all
//	POST /_tanodb/repair/resume      {"node"}
//	POST /_tanodb/repair/verify      {"node"}: answered when it is over
//
// A POST must say that it is JSON: a page that a browser shows cannot do that to
// a server that has not asked it in, so that no page can change a cluster.

// Cluster is what an operator asks of a node about the cluster that it is in.
type Cluster interface {
	Cluster() tanodb.ClusterState

	// ClusterTransfers are those of all nodes that answer; an error says which
	// did not.
	ClusterTransfers(ctx context.Context) ([]tanodb.TransferState, error)

	// Nodes ask all members how they are; those that do not answer soon have an error.
	Nodes(ctx context.Context) []tanodb.NodeState

	// Routes are who serves the keys of each partition now.
	Routes() [][]tanodb.Replica

	Join(ctx context.Context, address string, o tanodb.JoinOptions) error
	Stage(ctx context.Context, c tanodb.Change) error
	ClusterPlan(ctx context.Context) (tanodb.Plan, error)
	ClusterCommit(ctx context.Context, planID string) error
	ClusterClear(ctx context.Context) error
	ClusterDown(ctx context.Context, node string) error
	ClusterRecover(ctx context.Context, survivors []string) error
	Repair(ctx context.Context, target string) (partitions int, err error)
	SetTransferLimits(ctx context.Context, perNode int, bytesPerSecond int64) error

	// Of a node, or of all members if it has no name.
	Repairs(ctx context.Context, node string) ([]tanodb.RepairState, error)
	RepairPause(ctx context.Context, node string) ([]tanodb.RepairState, error)
	RepairResume(ctx context.Context, node string) ([]tanodb.RepairState, error)
	RepairVerify(ctx context.Context, node string) (tanodb.Verified, error)
	SetDeletes(ctx context.Context, mode string, grace time.Duration) error
}

// maxOrder is how many bytes an order may have.
const maxOrder = 64 << 10

// order is what a POST asks for: it is given the body, and returns the answer.
type order func(ctx context.Context, n Node, body []byte) (answer any, err error)

// orders are the resources that are POSTed to.
var orders = map[resource]order{
	clusterStage:   decoded(stage),
	clusterJoin:    decoded(join),
	clusterCommit:  decoded(commit),
	clusterClear:   decoded(unstage),
	clusterDown:    decoded(down),
	clusterRecover: decoded(recoverTopology),
	clusterRepair:  decoded(repair),
	clusterLimits:  decoded(limit),
	repairPause:    decoded(pauseRepair),
	repairResume:   decoded(resumeRepair),
	repairVerify:   decoded(verifyRepair),
	clusterDeletes: decoded(deletes),
	securityChange: decoded(changeSecurity),
	typeCreate:     decoded(createType),
	typeActivate:   decoded(activateType),
	typeUpdate:     decoded(updateType),
	typeReset:      decoded(resetType),
	restoreTypes:   decoded(restoreProps),
}

// cluster serves what is below /_tanodb/cluster.
func (h *handler) cluster(w http.ResponseWriter, r *http.Request, t target) {
	p, err := parseParams(r.URL.RawQuery, true)
	if err != nil {
		h.refuse(w, t, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), cmp.Or(p.timeout, kv.DefaultTimeout))
	defer cancel()
	answer, err := h.answer(ctx, w, r, t)
	if err != nil {
		h.refuse(w, t, err)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

// answer is what the cluster's resources answer.
func (h *handler) answer(ctx context.Context, w http.ResponseWriter, r *http.Request, t target) (any, error) {
	switch t.resource {
	case backupInfo:
		return h.node.BackupInfo(), nil
	case clusterState:
		return h.node.Cluster(), nil
	case clusterTransfers:
		ts, err := h.node.ClusterTransfers(ctx)
		if err != nil && len(ts) == 0 {
			return nil, err
		}
		return api.NewTransfers(ts, err), nil
	case clusterNodes:
		reach := view.ReachOf(h.node.Routes(), h.node.Status().Replicas)
		return api.Nodes{Nodes: h.node.Nodes(ctx), NoOwner: reach.Dark, NoMajority: reach.Minor}, nil
	case clusterPlan:
		return h.node.ClusterPlan(ctx)
	case typeList:
		types, err := h.node.BucketTypes(ctx)
		return api.BucketTypes{Types: types}, err
	case securityState:
		return h.node.Security(), nil
	case repairState:
		states, err := h.node.Repairs(ctx, "")
		return api.Repairs{Nodes: states}, err
	}
	limit := int64(maxOrder)
	if t.resource == restoreTypes {
		limit = maxBackupOrder
	}
	body, err := h.orderBody(w, r, limit)
	if err != nil {
		return nil, err
	}
	if t.resource == securityChange {
		if err := mayEnable(r, body); err != nil {
			return nil, err
		}
	}
	return orders[t.resource](ctx, h.node, body)
}

// orderBody reads a body of JSON.
func (h *handler) orderBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, errOrderType
	}
	if r.ContentLength > limit {
		return nil, errOrderLarge
	}
	control := http.NewResponseController(w)
	// A connection without deadlines, as in tests, has no slow clients either.
	_ = control.SetReadDeadline(time.Now().Add(h.o.allowance(limit)))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	_ = control.SetReadDeadline(time.Time{})
	if err == nil {
		return body, nil
	}
	if err = bodyError(err); errors.Is(err, errBodyLarge) {
		return nil, errOrderLarge
	}
	return nil, err
}

// decoded makes an order of a function that takes the body as a value. A name
// in the body that the value has not is refused: it may be a misspelt one.
func decoded[T any](do func(context.Context, Node, T) (any, error)) order {
	return func(ctx context.Context, n Node, body []byte) (any, error) {
		var v T
		if err := strictly(body, &v); err != nil {
			return nil, err
		}
		return do(ctx, n, v)
	}
}

// strictly reads one JSON document.
func strictly(body []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return badRequest("the body is not understood: " + err.Error() + "\n")
	}
	if _, err := d.Token(); err != io.EOF {
		return badRequest("the body has more than one JSON document\n")
	}
	return nil
}

func stage(ctx context.Context, n Node, c tanodb.Change) (any, error) {
	if c.Node == "" && (c.Kind == tanodb.ChangeLeave || c.Kind == tanodb.ChangeSet) {
		c.Node = n.Cluster().Node
	}
	if c.Kind == "" || c.Node == "" {
		return nil, badRequest("a change has a kind and a node\n")
	}
	return c, n.Stage(ctx, c)
}

func join(ctx context.Context, n Node, j api.Join) (any, error) {
	if j.Address == "" {
		return nil, badRequest("the address of a node of the cluster is missing\n")
	}
	return j, n.Join(ctx, j.Address, tanodb.JoinOptions{Zone: j.Zone, Weight: j.Weight, Auto: j.Auto})
}

func commit(ctx context.Context, n Node, c api.Commit) (any, error) {
	if c.Plan == "" {
		return nil, badRequest("a commit names the plan that was shown\n")
	}
	return c, n.ClusterCommit(ctx, c.Plan)
}

func unstage(ctx context.Context, n Node, c api.Clear) (any, error) {
	return c, n.ClusterClear(ctx)
}

func down(ctx context.Context, n Node, d api.Down) (any, error) {
	if d.Node == "" {
		return nil, badRequest("the node is missing\n")
	}
	return d, n.ClusterDown(ctx, d.Node)
}

func recoverTopology(ctx context.Context, n Node, r api.Recover) (any, error) {
	if len(r.Survivors) == 0 {
		return nil, badRequest("the survivors are missing\n")
	}
	if !r.IKnow {
		return nil, badRequest(`what only the other voters know is lost by this: say "i_know": true` + "\n")
	}
	return r, n.ClusterRecover(ctx, r.Survivors)
}

func repair(ctx context.Context, n Node, r api.Repair) (any, error) {
	if r.Target == "" {
		return nil, badRequest("the node or partition to repair is missing\n")
	}
	partitions, err := n.Repair(ctx, r.Target)
	return api.Repaired{Target: r.Target, Partitions: partitions}, err
}

func pauseRepair(ctx context.Context, n Node, o api.RepairOrder) (any, error) {
	states, err := n.RepairPause(ctx, o.Node)
	return api.Repairs{Nodes: states}, err
}

func resumeRepair(ctx context.Context, n Node, o api.RepairOrder) (any, error) {
	states, err := n.RepairResume(ctx, o.Node)
	return api.Repairs{Nodes: states}, err
}

func verifyRepair(ctx context.Context, n Node, o api.RepairOrder) (any, error) {
	return n.RepairVerify(ctx, o.Node)
}

func limit(ctx context.Context, n Node, l api.Limits) (any, error) {
	rate := int64(-1)
	switch {
	case l.BytesPerSecond != nil && *l.BytesPerSecond < 0:
		return nil, badRequest("bytes_per_second is negative; 0 is no limit\n")
	case l.BytesPerSecond != nil:
		rate = *l.BytesPerSecond
	case l.PerNode == 0:
		return nil, badRequest("per_node and bytes_per_second are missing; say one of them, or both\n")
	}
	return l, n.SetTransferLimits(ctx, l.PerNode, rate)
}

func deletes(ctx context.Context, n Node, d api.Deletes) (any, error) {
	if d.Mode == "" && d.Grace == 0 {
		return nil, badRequest("mode and grace_ns are missing; say one of them, or both\n")
	}
	return d, n.SetDeletes(ctx, d.Mode, d.Grace)
}
