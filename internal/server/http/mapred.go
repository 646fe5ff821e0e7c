package httpd

import (
	"encoding/json"
	"mime"
	"net/http"

	"github.com/tanodb/tanodb/internal/mapreduce"
)

// MapReduce, in Riak's JSON; see package mapreduce.
//
//	POST  /mapred               a job: all results at once, or {"error":…}
//	POST  /mapred?chunked=true  parts of multipart/mixed as they come: {"phase":N,"data":[…]}
//	GET   /mapred               how that is done

// jobUsage answers who looks at the resource with a browser.
const jobUsage = `<!DOCTYPE html>
<title>MapReduce</title>
<p>POST a job here, as application/json:
<pre>{"inputs":"BUCKET","query":[{"map":{"language":"erlang","module":"riak_kv_mapreduce","function":"map_object_value"}}]}</pre>
`

var errJobType = &requestError{http.StatusUnsupportedMediaType, "a job must be application/json\n"}

// mapReduce serves jobs.
func (h *handler) mapReduce(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header()["Content-Type"] = []string{"text/html"}
		if r.Method == http.MethodGet {
			_, _ = w.Write([]byte(jobUsage)) // a client that is gone is nobody's fault
		}
		return
	}
	if media, _, err := mime.ParseMediaType(first(r.Header, "Content-Type")); err != nil || media != "application/json" {
		failJob(w, errJobType)
		return
	}
	body, release, err := h.body(w, r)
	defer release()
	var job *mapreduce.Job
	if err == nil {
		job, err = mapreduce.Parse(body)
	}
	if err != nil {
		failJob(w, err)
		return
	}
	if r.URL.Query().Get("chunked") == "true" {
		h.streamJob(w, r, job)
		return
	}
	answer, err := h.jobs.Collect(r.Context(), job)
	if err != nil {
		failJob(w, err)
		return
	}
	w.Header()["Content-Type"] = applicationJSON
	writeWhole(w, http.StatusOK, answer)
}

// failJob answers with an error, in Riak's JSON.
func failJob(w http.ResponseWriter, err error) {
	writeJSON(w, statusOf(err), json.RawMessage(mapreduce.ErrorJSON(err)))
}

// streamJob answers with results as they come.
func (h *handler) streamJob(w http.ResponseWriter, r *http.Request, job *mapreduce.Job) {
	out := newParts(w)
	err := h.jobs.Run(r.Context(), job, func(p mapreduce.Part) error {
		return out.json(struct {
			Phase int             `json:"phase"`
			Data  json.RawMessage `json:"data"`
		}{p.Phase, p.Data})
	})
	if err != nil && !out.begun {
		failJob(w, err)
		return
	}
	if err == nil {
		err = out.end()
	}
	if err != nil {
		out.breakOff(json.RawMessage(mapreduce.ErrorJSON(err)))
	}
}
