package httpd

import (
	"bytes"
	"encoding/json"
	"net/http"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

// The routes of what the server goes by:
//
//	GET  /_tanodb/settings      all options with their values, and where each comes from
//	POST /_tanodb/settings/set  {"name", "value"}: of an option that can change while the node runs
//
// A POST must say that it is JSON, as those of the cluster.

// Settings are the options of the server that this is a part of.
type Settings interface {
	Settings() api.Settings

	// Set changes one until the next start. The error is a *kv.InvalidError.
	Set(name, value string) (api.Setting, error)
}

// settings serves them.
func (h *handler) settings(w http.ResponseWriter, r *http.Request, t target) {
	if h.o.Settings == nil {
		h.refuse(w, t, errNoRoute)
		return
	}
	if t.resource == settings {
		writeJSON(w, http.StatusOK, h.o.Settings.Settings())
		return
	}
	set, err := h.set(w, r)
	if err != nil {
		h.refuse(w, t, err)
		return
	}
	writeJSON(w, http.StatusOK, set)
}

// set changes one.
func (h *handler) set(w http.ResponseWriter, r *http.Request) (api.Setting, error) {
	body, err := h.orderBody(w, r, maxOrder)
	if err != nil {
		return api.Setting{}, err
	}
	var order api.SetOrder
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&order); err != nil {
		return api.Setting{}, &kv.InvalidError{What: "the body", Problem: "is not the JSON that is wanted: " + err.Error()}
	}
	return h.o.Settings.Set(order.Name, order.Value)
}
