package httpd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

// The properties of buckets and of bucket types are JSON, as Riak's: {"props": {name:
// value, …}}. A PUT changes those that it names; null takes one back.
//
//	GET PUT DELETE  /buckets/B/props             of a bucket; DELETE takes back all of its own
//	GET PUT DELETE  /types/T/buckets/B/props
//	GET PUT         /types/T/props               of a type that is there
//	GET             /_tanodb/types               all types
//	POST            /_tanodb/types/create        {"name", "props"}
//	POST            /_tanodb/types/activate      {"name"}
//	POST            /_tanodb/types/update        {"name", "props"}
//	POST            /_tanodb/types/reset         {"name"}

// Properties is who knows and changes them.
type Properties interface {
	BucketProps(ctx context.Context, b kv.Bucket) (kv.Properties, error)
	SetBucketProps(ctx context.Context, b kv.Bucket, props kv.Properties) error
	ResetBucketProps(ctx context.Context, b kv.Bucket) error

	BucketTypes(ctx context.Context) ([]tanodb.BucketType, error)
	BucketType(ctx context.Context, name string) (tanodb.BucketType, error)
	CreateBucketType(ctx context.Context, name string, props kv.Properties) error
	ActivateBucketType(ctx context.Context, name string) error
	UpdateBucketType(ctx context.Context, name string, props kv.Properties) error
	ResetBucketType(ctx context.Context, name string) error
}

// propsBody is the body of a GET or PUT.
type propsBody struct {
	Props kv.Properties `json:"props"`
}

// bucketProps serves the properties of a bucket.
func (h *handler) bucketProps(w http.ResponseWriter, r *http.Request, t target) {
	switch r.Method {
	case http.MethodPut, http.MethodPost:
		body, err := h.propsBody(w, r)
		if err == nil {
			err = h.node.SetBucketProps(r.Context(), t.bucket(), body)
		}
		h.changed(w, t, err)
	case http.MethodDelete:
		h.changed(w, t, h.node.ResetBucketProps(r.Context(), t.bucket()))
	default:
		props, err := h.node.BucketProps(r.Context(), t.bucket())
		if err != nil {
			h.refuse(w, t, err)
			return
		}
		writeJSON(w, http.StatusOK, map[string]any{"props": namedProps{t.key.Bucket, props}})
	}
}

// typeProps serves the properties of a bucket type.
func (h *handler) typeProps(w http.ResponseWriter, r *http.Request, t target) {
	name := cmp.Or(t.key.Type, "default")
	if r.Method != http.MethodPut && r.Method != http.MethodPost {
		bt, err := h.node.BucketType(r.Context(), name)
		if err != nil {
			h.refuse(w, t, &requestError{http.StatusNotFound, "Unknown bucket type: " + name + "\n"})
			return
		}
		writeJSON(w, http.StatusOK, propsBody{bt.Props})
		return
	}
	body, err := h.propsBody(w, r)
	if err == nil {
		if _, unknown := h.node.BucketType(r.Context(), name); unknown != nil {
			err = &requestError{http.StatusNotFound, "Cannot modify unknown bucket type: " + name + "\n"}
		} else {
			err = h.node.UpdateBucketType(r.Context(), name, body)
		}
	}
	h.changed(w, t, err)
}

// propsBody reads the body of a change.
func (h *handler) propsBody(w http.ResponseWriter, r *http.Request) (kv.Properties, error) {
	b, err := h.orderBody(w, r, maxOrder)
	if err != nil {
		return nil, err
	}
	var body propsBody
	if err := json.Unmarshal(b, &body); err != nil || body.Props == nil {
		return nil, badRequest(`the body must be {"props":{...}}` + "\n")
	}
	// What was read says also what cannot be changed: a bucket's name.
	props := body.Props[:0]
	for _, p := range body.Props {
		if p.Name != "name" && p.Name != "active" && p.Name != "claimant" {
			props = append(props, p)
		}
	}
	return props, nil
}

// namedProps are the properties of a bucket with its name, as Riak shows them.
type namedProps struct {
	name  string
	props kv.Properties
}

func (p namedProps) MarshalJSON() ([]byte, error) {
	name, err := json.Marshal(p.name)
	if err != nil {
		return nil, err
	}
	rest, err := json.Marshal(p.props)
	if err != nil {
		return nil, err
	}
	return append(append(append([]byte(`{"name":`), name...), ','), rest[1:]...), nil
}

// changed answers a change.
func (h *handler) changed(w http.ResponseWriter, t target, err error) {
	var refused *tanodb.ClusterError
	switch {
	case err == nil:
		writeNoContent(w, applicationJSON)
	case errors.As(err, &refused) && api.Code(refused.Code) == api.CodeUndefinedType:
		h.refuse(w, t, &requestError{http.StatusNotFound, "Unknown bucket type: " + t.key.Type + "\n"})
	default:
		h.refuse(w, t, err)
	}
}

func createType(ctx context.Context, n Node, b api.BucketType) (any, error) {
	return b, n.CreateBucketType(ctx, b.Name, b.Props)
}

func activateType(ctx context.Context, n Node, b api.BucketType) (any, error) {
	return b, n.ActivateBucketType(ctx, b.Name)
}

func updateType(ctx context.Context, n Node, b api.BucketType) (any, error) {
	return b, n.UpdateBucketType(ctx, b.Name, b.Props)
}

func resetType(ctx context.Context, n Node, b api.BucketType) (any, error) {
	return b, n.ResetBucketType(ctx, b.Name)
}
