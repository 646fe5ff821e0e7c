package mapreduce

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The functions of reduces. Each has all that its phase is fed, once, and tells what came
// of it when no more comes, also when nothing came at all:
//
//	reduce_identity            the keys that it was fed, as [BUCKET,KEY]
//	reduce_set_union           each value once, in order
//	reduce_sort                in Erlang's order: numbers, null and booleans, objects, lists, texts
//	reduce_string_to_integer   texts as integers
//	reduce_sum                 the sum of numbers; [0] of none
//	reduce_plist_sum           by name, the sums of the fields of objects, or of lists of [NAME,NUMBER]
//	reduce_count_inputs        how many there were
//	Riak.filterNotFound        all but keys at which nothing was
//	Riak.reduceSum             as reduce_sum
//	Riak.reduceMin, reduceMax  the least and the greatest; [] of none
//	Riak.reduceSort            in the order of the values as texts
//	Riak.reduceNumericSort     numbers, in order
//	Riak.reduceLimit           so many as the argument says
//	Riak.reduceSlice           from the first number of the argument to before the second
//
// What Riak passes in an argument about the batches of a reduce has no meaning here, and is
// overlooked: none runs twice over anything. Sums, integers, the least and the greatest pass
// over keys at which nothing was.

// reducer is the state of a reduce that runs.
type reducer interface {
	add(v any) error
	result() ([]any, error)
}

// reducerSpec is the function of a reduce.
type reducerSpec struct {
	check func(at string, arg any) error
	begin func(arg any) reducer
}

var reducers = map[string]reducerSpec{
	"riak_kv_mapreduce:reduce_identity":          {anyArg, func(any) reducer { return &held{each: identity} }},
	"riak_kv_mapreduce:reduce_set_union":         {anyArg, func(any) reducer { return &union{seen: map[string]struct{}{}} }},
	"riak_kv_mapreduce:reduce_sort":              {anyArg, func(any) reducer { return &held{then: sorted} }},
	"riak_kv_mapreduce:reduce_string_to_integer": {anyArg, func(any) reducer { return &held{each: integer} }},
	"riak_kv_mapreduce:reduce_sum":               {anyArg, func(any) reducer { return &sum{total: int64(0)} }},
	"riak_kv_mapreduce:reduce_plist_sum":         {anyArg, func(any) reducer { return &fieldSums{totals: map[string]any{}} }},
	"riak_kv_mapreduce:reduce_count_inputs":      {anyArg, func(any) reducer { return &count{} }},
	"Riak.filterNotFound":                        {anyArg, func(any) reducer { return &held{each: present} }},
	"Riak.reduceSum":                             {anyArg, func(any) reducer { return &sum{total: int64(0)} }},
	"Riak.reduceMin":                             {anyArg, func(any) reducer { return &extreme{sign: -1} }},
	"Riak.reduceMax":                             {anyArg, func(any) reducer { return &extreme{sign: 1} }},
	"Riak.reduceSort":                            {noFunction, func(any) reducer { return &held{then: sortedAsText} }},
	"Riak.reduceNumericSort":                     {anyArg, func(any) reducer { return &held{each: numeric, then: sorted} }},
	"Riak.reduceLimit":                           {limitArg, func(arg any) reducer { return &held{then: sliced(int64(0), arg)} }},
	"Riak.reduceSlice":                           {sliceArg, beginSlice},
}

// noFunction refuses an argument that is a text: the source of how to compare.
func noFunction(at string, arg any) error {
	if _, source := arg.(string); source {
		return invalid(at+".arg", "is the source of a function, which is not supported: no engine runs it")
	}
	return nil
}

func limitArg(at string, arg any) error {
	if _, ok := arg.(int64); !ok {
		return invalid(at+".arg", "must be an integer: how many are wanted")
	}
	return nil
}

func sliceArg(at string, arg any) error {
	list, _ := arg.([]any)
	if len(list) == 1 || len(list) == 2 {
		_, from := list[0].(int64)
		_, to := list[len(list)-1].(int64)
		if from && to {
			return nil
		}
	}
	return invalid(at+".arg", "must be [FROM,TO]: integers, the first place and the one after the last")
}

func beginSlice(arg any) reducer {
	list, _ := arg.([]any) // as sliceArg has seen
	var to any
	if len(list) == 2 {
		to = list[1]
	}
	return &held{then: sliced(list[0], to)}
}

// held keeps what it is fed: what each makes of it, and then does with all.
type held struct {
	values []any
	size   int
	each   func(v any) (out any, keep bool, err error) // nil: the plain value
	then   func([]any) []any                           // nil: nothing
}

func (h *held) add(v any) error {
	keep := true
	var err error
	if h.each != nil {
		v, keep, err = h.each(v)
	}
	if err != nil || !keep {
		return err
	}
	if v, err = plain(v); err != nil {
		return err
	}
	if h.size += sizeOf(v); h.size > MaxHeld {
		return errHeld
	}
	h.values = append(h.values, v)
	return nil
}

var errHeld = fmt.Errorf("what is fed to it comes to more than %d bytes", MaxHeld)

func (h *held) result() ([]any, error) {
	if h.then == nil {
		return h.values, nil
	}
	return h.then(h.values), nil
}

// identity makes a key [BUCKET,KEY].
func identity(v any) (any, bool, error) {
	r, err := asRef(v)
	return ref{key: r.key}, true, err
}

// present passes over keys at which nothing was.
func present(v any) (any, bool, error) { return v, !isMissing(v), nil }

// isMissing reports whether a value says that nothing was there, in its plain form too.
func isMissing(v any) bool {
	if _, ok := v.(missing); ok {
		return true
	}
	object, _ := v.(map[string]any)
	_, ok := object["not_found"]
	return ok
}

// integer reads a text as an integer.
func integer(v any) (any, bool, error) {
	switch v := v.(type) {
	case int64:
		return v, true, nil
	case string:
		digits := strings.TrimLeft(v, "+-")
		if len(v)-len(digits) > 1 || digits == "" || strings.Trim(digits, "0123456789") != "" {
			return nil, false, errors.New("it is no integer")
		}
		n, err := parseNumber(strings.TrimPrefix(v, "+"))
		return n, true, err
	}
	if isMissing(v) {
		return nil, false, nil
	}
	return nil, false, errors.New("it is no integer")
}

func numeric(v any) (any, bool, error) {
	if isMissing(v) {
		return nil, false, nil
	}
	if rank(v) != rankNumber {
		return nil, false, errNumber
	}
	return v, true, nil
}

var errNumber = errors.New("it is no number")

func sorted(all []any) []any {
	slices.SortStableFunc(all, compare)
	return all
}

func sortedAsText(all []any) []any {
	slices.SortStableFunc(all, func(a, b any) int { return strings.Compare(asText(a), asText(b)) })
	return all
}

// asText is a plain value as a text, about as JavaScript has it.
func asText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case int64, float64:
		return numberText(v)
	}
	return shortly(v)
}

// sliced cuts out what is between two places. Negative ones count from the end, and no
// second one is the end, as in JavaScript.
func sliced(from, to any) func([]any) []any {
	return func(all []any) []any {
		at := func(v any, unset int) int {
			n, ok := v.(int64)
			switch {
			case !ok:
				return unset
			case n < 0:
				return int(max(0, int64(len(all))+n))
			}
			return int(min(n, int64(len(all))))
		}
		first, end := at(from, 0), at(to, len(all))
		return all[first:max(first, end)]
	}
}

// union keeps each value once.
type union struct {
	held
	seen map[string]struct{} // their JSON
}

func (u *union) add(v any) error {
	b, err := encode(v)
	if err != nil {
		return err
	}
	if _, ok := u.seen[string(b)]; ok {
		return nil
	}
	if u.size += len(b); u.size > MaxHeld {
		return errHeld
	}
	u.seen[string(b)] = struct{}{}
	return u.held.add(v)
}

func (u *union) result() ([]any, error) { return sorted(u.values), nil }

// sum adds numbers.
type sum struct{ total any }

func (s *sum) add(v any) error {
	n, keep, err := numeric(v)
	if err == nil && keep {
		s.total = plus(s.total, n)
	}
	return err
}

func (s *sum) result() ([]any, error) { return []any{s.total}, nil }

// plus adds integers exactly as long as they fit into 64 bits.
func plus(a, b any) any {
	x, xok := a.(int64)
	y, yok := b.(int64)
	if total := x + y; xok && yok && (total > x) == (y > 0) {
		return total
	}
	return float(a) + float(b)
}

// fieldSums adds numbers by their names.
type fieldSums struct {
	totals map[string]any
	size   int
}

func (s *fieldSums) add(v any) error {
	if isMissing(v) {
		return nil
	}
	v, err := plain(v)
	if err != nil {
		return err
	}
	switch v := v.(type) {
	case map[string]any:
		for _, name := range sortedNames(v) {
			if err := s.addField(name, v[name]); err != nil {
				return err
			}
		}
		return nil
	case []any:
		if len(v) == 2 {
			if name, ok := v[0].(string); ok {
				return s.addField(name, v[1])
			}
		}
		for _, pair := range v {
			if inner, _ := pair.([]any); len(inner) != 2 {
				return errPairs
			}
			if err := s.add(pair); err != nil {
				return err
			}
		}
		return nil
	}
	return errPairs
}

var errPairs = errors.New("it is no object, and no list of [NAME,NUMBER]")

func (s *fieldSums) addField(name string, v any) error {
	if rank(v) != rankNumber {
		return fmt.Errorf("its %s is no number", quoted(name))
	}
	total, ok := s.totals[name]
	if !ok {
		total = int64(0)
		if s.size += len(name) + sizeOf(total); s.size > MaxHeld {
			return errHeld
		}
	}
	s.totals[name] = plus(total, v)
	return nil
}

func (s *fieldSums) result() ([]any, error) {
	if len(s.totals) == 0 {
		return nil, nil
	}
	return []any{s.totals}, nil
}

// count counts.
type count struct{ n int64 }

func (c *count) add(any) error {
	c.n++
	return nil
}

func (c *count) result() ([]any, error) { return []any{c.n}, nil }

// extreme keeps the least (sign -1) or the greatest (1).
type extreme struct {
	sign int
	best any
	any  bool
}

func (e *extreme) add(v any) error {
	if isMissing(v) {
		return nil
	}
	v, err := plain(v)
	if err == nil && (!e.any || compare(v, e.best)*e.sign > 0) {
		e.best, e.any = v, true
	}
	return err
}

func (e *extreme) result() ([]any, error) {
	if !e.any {
		return nil, nil
	}
	return []any{e.best}, nil
}
