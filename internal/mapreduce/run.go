package mapreduce

import (
	"context"
	"encoding/json"
)

// run feeds the inputs to the phases, and hands on what these keep.
func (j *Job) run(ctx context.Context, s *source, emit func(Part) error) error {
	a := &answer{emit: emit, parts: make([][]byte, max(1, len(j.phases)))}
	take := func([]any) error { return nil }
	end := func() error { return nil }
	if len(j.phases) == 0 {
		take = func(in []any) error { return a.keep(0, "inputs", in) }
	}
	for i := len(j.phases) - 1; i >= 0; i-- {
		take, end = j.phases[i].stage(ctx, s, a, i, take, end)
	}
	if err := j.inputs.feed(ctx, s.Store, take); err != nil {
		return err
	}
	if err := end(); err != nil {
		return err
	}
	return a.flush()
}

// stage makes a phase a stage before the next one: take consumes a piece of what the one
// before hands on, and end is told that there is no more.
func (p *phase) stage(ctx context.Context, s *source, a *answer, number int, next func([]any) error, nextEnd func() error) (take func([]any) error, end func() error) {
	handOn := func(out []any) error {
		if p.keep {
			if err := a.keep(number, p.name, out); err != nil {
				return err
			}
		}
		return feedPieces(ctx, out, next)
	}
	if p.reducer == nil {
		return func(in []any) error { return p.mapPiece(ctx, s, number, in, handOn) }, nextEnd
	}
	r := p.reducer()
	take = func(in []any) error {
		for _, v := range in {
			if err := r.add(v); err != nil {
				return &Error{number, p.name, shortly(v), err}
			}
		}
		return nil
	}
	return take, func() error {
		out, err := r.result()
		if err != nil {
			return &Error{Phase: number, Function: p.name, Cause: err}
		}
		if err := handOn(out); err != nil {
			return err
		}
		return nextEnd()
	}
}

// answer gathers what phases keep until it is enough for a part.
type answer struct {
	emit  func(Part) error
	parts [][]byte // by phase: "[1,2"
}

// keep takes results of a phase.
func (a *answer) keep(number int, name string, out []any) error {
	for _, v := range out {
		b, err := encode(v)
		if err != nil {
			return &Error{Phase: number, Function: name, Cause: err}
		}
		sep := byte(',')
		if len(a.parts[number]) == 0 {
			sep = '['
		}
		a.parts[number] = append(append(a.parts[number], sep), b...)
		if len(a.parts[number]) >= partBytes {
			if err := a.send(number); err != nil {
				return err
			}
		}
	}
	return nil
}

// send hands on a part.
func (a *answer) send(number int) error {
	data := json.RawMessage(append(a.parts[number], ']'))
	a.parts[number] = nil // whoever has the part may keep it
	return a.emit(Part{number, data})
}

// flush hands on what is left, in the order of the phases.
func (a *answer) flush() error {
	for number, part := range a.parts {
		if len(part) == 0 {
			continue
		}
		if err := a.send(number); err != nil {
			return err
		}
	}
	return nil
}
