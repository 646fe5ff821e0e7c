package mapreduce

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tanodb/tanodb/kv"
)

// Job is one that was understood.
type Job struct {
	inputs  inputs
	phases  []phase
	timeout time.Duration
}

// phase is one of a job's phases: exactly one of mapper, reducer and link is set.
type phase struct {
	name    string // of its function
	mapper  *mapper
	reducer func() reducer
	link    *linkSpec
	arg     any
	keep    bool
}

// linkSpec is which links a link phase follows.
type linkSpec struct{ bucket, tag string }

// Any stands for any bucket and any tag of a link.
const Any = "_"

// invalid is a fault of a job: of what is at a place in it.
func invalid(at, problem string) error { return &kv.InvalidError{What: at, Problem: problem} }

// Parse reads a job. The error is a *kv.InvalidError, which names the place.
func Parse(b []byte) (*Job, error) {
	if len(b) > MaxJob {
		return nil, invalid("job", fmt.Sprintf("is %d bytes long; the limit is %d", len(b), MaxJob))
	}
	var parts struct {
		Inputs  json.RawMessage              `json:"inputs"`
		Query   []map[string]json.RawMessage `json:"query"`
		Timeout *int64                       `json:"timeout"`
	}
	if err := read("job", b, &parts); err != nil {
		return nil, err
	}
	switch {
	case parts.Inputs == nil:
		return nil, invalid("job", "has no inputs")
	case parts.Query == nil:
		return nil, invalid("job", "has no query: a list of phases")
	case len(parts.Query) > MaxPhases:
		return nil, invalid("query", fmt.Sprintf("has %d phases; the limit is %d", len(parts.Query), MaxPhases))
	case parts.Timeout != nil && *parts.Timeout <= 0:
		return nil, invalid("timeout", "must be a positive number of milliseconds")
	}
	j := &Job{timeout: kv.DefaultTimeout}
	if parts.Timeout != nil {
		j.timeout = time.Duration(min(*parts.Timeout, int64(kv.MaxTimeout/time.Millisecond))) * time.Millisecond
	}
	var err error
	if j.inputs, err = parseInputs(parts.Inputs); err != nil {
		return nil, err
	}
	for i, one := range parts.Query {
		p, err := parsePhase("query["+strconv.Itoa(i)+"]", one, i == len(parts.Query)-1)
		if err != nil {
			return nil, err
		}
		j.phases = append(j.phases, p)
	}
	return j, nil
}

// BucketType is that of the bucket that the inputs are of; empty: the default one, or they
// are of none.
func (j *Job) BucketType() string { return j.inputs.bucket.Type }

// kept are the phases that keep. The inputs of a job without phases are its answer.
func (j *Job) kept() []int {
	kept := []int{}
	for i, p := range j.phases {
		if p.keep {
			kept = append(kept, i)
		}
	}
	if len(kept) == 0 {
		kept = append(kept, max(0, len(j.phases)-1)) // nothing is kept: an empty answer
	}
	return kept
}

// phaseSpec is a phase as it stands in a job.
type phaseSpec struct {
	Language string          `json:"language"`
	Module   string          `json:"module"`
	Function string          `json:"function"`
	Name     string          `json:"name"`
	Source   json.RawMessage `json:"source"`
	Bucket   string          `json:"bucket"`
	Key      string          `json:"key"`
	Tag      string          `json:"tag"`
	Arg      json.RawMessage `json:"arg"`
	Keep     *bool           `json:"keep"`
}

// parsePhase reads a phase.
func parsePhase(at string, one map[string]json.RawMessage, last bool) (phase, error) {
	if len(one) != 1 {
		return phase{}, invalid(at, `must be one of {"map":…}, {"reduce":…} and {"link":…}`)
	}
	for kind, raw := range one {
		at += "." + kind
		var s phaseSpec
		if err := read(at, raw, &s); err != nil {
			return phase{}, err
		}
		p := phase{keep: last}
		if s.Keep != nil {
			p.keep = *s.Keep
		}
		if len(s.Arg) > MaxArg {
			return phase{}, invalid(at+".arg", fmt.Sprintf("is %d bytes long; the limit is %d", len(s.Arg), MaxArg))
		}
		var err error
		if p.arg, err = decodeJSON(s.Arg); err != nil {
			return phase{}, invalid(at+".arg", err.Error())
		}
		switch kind {
		case "map", "reduce":
			return p, p.function(at, kind, &s)
		case "link":
			p.name, p.link = "link", &linkSpec{orAny(s.Bucket), orAny(s.Tag)}
			return p, nil
		}
		return phase{}, invalid(at, "is no kind of phase: there are map, reduce and link")
	}
	return phase{}, nil
}

func orAny(s string) string {
	if s == "" {
		return Any
	}
	return s
}

// given reports whether a part of a job is there; a null stands for one that is not.
func given(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// function finds the function of a map or a reduce.
func (p *phase) function(at, kind string, s *phaseSpec) error {
	switch {
	case s.Language == "":
		return invalid(at, `has no language: "erlang" or "javascript"`)
	case s.Language != "erlang" && s.Language != "javascript":
		return invalid(at+".language", "is "+quoted(s.Language)+`; there are "erlang" and "javascript"`)
	case given(s.Source):
		return invalid(at+".source", "is not supported: no engine runs functions that come as source; use one of "+functions(kind))
	case s.Bucket != "" || s.Key != "":
		return invalid(at+".bucket", "is not supported: no engine runs functions that are stored as source; use one of "+functions(kind))
	case s.Language == "erlang" && (s.Module == "" || s.Function == ""):
		return invalid(at, "has no module and function")
	case s.Language == "javascript" && s.Name == "":
		return invalid(at, "has no name")
	}
	p.name = s.Name
	if s.Language == "erlang" {
		p.name = s.Module + ":" + s.Function
	}
	if kind == "map" {
		m, ok := mappers[p.name]
		if !ok {
			return invalid(at, "is "+quoted(p.name)+", which is not supported; there are "+functions(kind))
		}
		p.mapper = m
		return m.check(at, p.arg)
	}
	r, ok := reducers[p.name]
	if !ok {
		return invalid(at, "is "+quoted(p.name)+", which is not supported; there are "+functions(kind))
	}
	p.reducer = func() reducer { return r.begin(p.arg) }
	return r.check(at, p.arg)
}

// functions are the names of the functions of a kind of phase, in order.
func functions(kind string) string {
	if kind == "map" {
		return strings.Join(sortedNames(mappers), ", ")
	}
	return strings.Join(sortedNames(reducers), ", ")
}

// quoted shows a text of the job, not more of it than anybody would read.
func quoted(s string) string {
	if len(s) > longInput {
		s = s[:longInput] + "…"
	}
	return strconv.Quote(s)
}

// read decodes what is at a place of the job. What it does not know it overlooks, as Riak.
func read(at string, b []byte, into any) error {
	err := json.Unmarshal(b, into)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if wrong.Field != "" {
			at += "." + wrong.Field
		}
		return invalid(at, "cannot be a JSON "+wrong.Value)
	}
	if err != nil {
		return invalid(at, "is no JSON: "+err.Error())
	}
	return nil
}
