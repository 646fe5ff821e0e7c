package mapreduce

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tanodb/tanodb/kv"
)

// Key filters look at the names of keys, before anything is fetched. A list of them is
// a chain: each takes what the one before has made of the key, and the last must be a
// condition.
//
//	["int_to_string"] ["string_to_int"] ["float_to_string"] ["string_to_float"]
//	["to_upper"] ["to_lower"] ["urldecode"]
//	["tokenize", SEPARATORS, N]          the Nth piece between any of the separators
//	["greater_than", V] ["less_than", V] ["greater_than_eq", V] ["less_than_eq", V]
//	["between", V, V] ["between", V, V, false]    without its ends
//	["eq", V] ["neq", V] ["set_member", V, …]
//	["matches", REGEX] ["similar_to", TEXT, DISTANCE] ["starts_with", TEXT] ["ends_with", TEXT]
//	["and", CHAIN, …] ["or", CHAIN, …] ["not", CHAIN]    a chain of one may be the filter itself

// The limits of key filters.
const (
	maxFilters     = 256 // in a list
	maxFilterDepth = 8   // lists within each other
	maxSimilar     = 256 // characters of a text that similar_to compares with
)

// filter makes of what a key has become something else, or a bool.
type filter func(v any) (any, error)

// filterSpec is what a filter takes, and how it is made. A condition makes a bool.
type filterSpec struct {
	condition bool
	make      func(args []any) (filter, error)
}

var filterSpecs = map[string]filterSpec{
	"int_to_string":   {false, plainFilter(numberToText)},
	"float_to_string": {false, plainFilter(numberToText)},
	"string_to_int":   {false, plainFilter(textToInt)},
	"string_to_float": {false, plainFilter(textToFloat)},
	"to_upper":        {false, textFilter(strings.ToUpper)},
	"to_lower":        {false, textFilter(strings.ToLower)},
	"urldecode":       {false, plainFilter(urlDecode)},
	"tokenize":        {false, tokenize},
	"greater_than":    {true, comparison(func(c int) bool { return c > 0 })},
	"less_than":       {true, comparison(func(c int) bool { return c < 0 })},
	"greater_than_eq": {true, comparison(func(c int) bool { return c >= 0 })},
	"less_than_eq":    {true, comparison(func(c int) bool { return c <= 0 })},
	"eq":              {true, comparison(func(c int) bool { return c == 0 })},
	"neq":             {true, comparison(func(c int) bool { return c != 0 })},
	"between":         {true, between},
	"set_member":      {true, setMember},
	"matches":         {true, matches},
	"similar_to":      {true, similarTo},
	"starts_with":     {true, textCondition(strings.HasPrefix)},
	"ends_with":       {true, textCondition(strings.HasSuffix)},
}

// parseFilters reads a chain of filters.
func parseFilters(at string, raw json.RawMessage, depth int) (filter, error) {
	var list [][]json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return nil, invalid(at, `must be a list of filters, ["NAME", ARGUMENT, …]`)
	}
	if len(list) == 0 || len(list) > maxFilters || depth > maxFilterDepth {
		return nil, invalid(at, fmt.Sprintf("must be from 1 to %d filters, at most %d lists within each other", maxFilters, maxFilterDepth))
	}
	var chain []filter
	for i, one := range list {
		f, condition, err := parseFilter(at+"["+strconv.Itoa(i)+"]", one, depth)
		if err != nil {
			return nil, err
		}
		if last := i == len(list)-1; condition != last {
			return nil, invalid(at, "must have one condition, and at its end")
		}
		chain = append(chain, f)
	}
	return func(v any) (any, error) {
		var err error
		for _, f := range chain {
			if v, err = f(v); err != nil {
				return nil, err
			}
		}
		return v, nil
	}, nil
}

// parseFilter reads one filter.
func parseFilter(at string, parts []json.RawMessage, depth int) (f filter, condition bool, err error) {
	var name string
	if len(parts) == 0 || json.Unmarshal(parts[0], &name) != nil {
		return nil, false, invalid(at, "must begin with a name")
	}
	if name == "and" || name == "or" || name == "not" {
		f, err = parseJoint(at, name, parts[1:], depth)
		return f, true, err
	}
	spec, ok := filterSpecs[name]
	if !ok {
		return nil, false, invalid(at, "is "+quoted(name)+"; there are and, not, or, "+strings.Join(sortedNames(filterSpecs), ", "))
	}
	var args []any
	size := 0
	for _, raw := range parts[1:] {
		if size += len(raw); size > MaxArg {
			return nil, false, invalid(at, fmt.Sprintf("of %s has arguments of more than %d bytes", name, MaxArg))
		}
		arg, err := decodeJSON(raw)
		if err != nil {
			return nil, false, invalid(at, err.Error())
		}
		args = append(args, arg)
	}
	run, err := spec.make(args)
	if err != nil {
		return nil, false, invalid(at, "of "+name+": "+err.Error())
	}
	return func(v any) (any, error) {
		out, err := run(v)
		if err != nil {
			return nil, fmt.Errorf("key filter %s: %w", name, err)
		}
		return out, nil
	}, spec.condition, nil
}

// parseJoint reads the chains that and, or and not join.
func parseJoint(at, name string, parts []json.RawMessage, depth int) (filter, error) {
	if len(parts) == 0 || name == "not" && len(parts) > 1 {
		return nil, invalid(at, "of "+name+" has the wrong number of lists of filters")
	}
	var chains []filter
	for _, raw := range parts {
		var name string
		if first := []json.RawMessage(nil); json.Unmarshal(raw, &first) == nil && len(first) > 0 && json.Unmarshal(first[0], &name) == nil {
			raw = slices.Concat([]byte("["), raw, []byte("]")) // one filter stands for a chain of it
		}
		f, err := parseFilters(at, raw, depth+1)
		if err != nil {
			return nil, err
		}
		chains = append(chains, f)
	}
	return func(v any) (any, error) {
		for _, f := range chains {
			got, err := f(v)
			switch {
			case err != nil:
				return nil, err
			case name == "not":
				return got != true, nil
			case got == (name == "or"):
				return got, nil // that decides
			}
		}
		return name == "and", nil
	}, nil
}

var (
	errArgs = errors.New("it has the wrong arguments")
	errText = errors.New("it is no text")
)

// plainFilter is a filter without arguments.
func plainFilter(f filter) func([]any) (filter, error) {
	return func(args []any) (filter, error) {
		if len(args) != 0 {
			return nil, errArgs
		}
		return f, nil
	}
}

func textFilter(do func(string) string) func([]any) (filter, error) {
	return plainFilter(func(v any) (any, error) {
		s, ok := v.(string)
		if !ok {
			return nil, errText
		}
		return do(s), nil
	})
}

func numberToText(v any) (any, error) {
	if rank(v) != rankNumber {
		return nil, errNumber
	}
	return numberText(v), nil
}

func textToInt(v any) (any, error) {
	n, _, err := integer(v)
	return n, err
}

func textToFloat(v any) (any, error) {
	s, ok := v.(string)
	if !ok {
		return nil, errText
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f != f {
		return nil, errNumber
	}
	return f, nil
}

func urlDecode(v any) (any, error) {
	s, ok := v.(string)
	if !ok {
		return nil, errText
	}
	return url.QueryUnescape(s)
}

// tokenize cuts a text at any of the separators, of which several in a row are one.
func tokenize(args []any) (filter, error) {
	if len(args) != 2 {
		return nil, errArgs
	}
	separators, ok := args[0].(string)
	nth, isInt := args[1].(int64)
	if !ok || !isInt || nth < 1 {
		return nil, errArgs
	}
	return func(v any) (any, error) {
		s, ok := v.(string)
		if !ok {
			return nil, errText
		}
		pieces := strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(separators, r) })
		if nth > int64(len(pieces)) {
			return nil, fmt.Errorf("it has %d pieces, and none is number %d", len(pieces), nth)
		}
		return pieces[nth-1], nil
	}, nil
}

func comparison(holds func(c int) bool) func([]any) (filter, error) {
	return func(args []any) (filter, error) {
		if len(args) != 1 {
			return nil, errArgs
		}
		return func(v any) (any, error) { return holds(compare(v, args[0])), nil }, nil
	}
}

func between(args []any) (filter, error) {
	ends := true
	if len(args) == 3 {
		var ok bool
		if ends, ok = args[2].(bool); !ok {
			return nil, errArgs
		}
	}
	if len(args) != 2 && len(args) != 3 {
		return nil, errArgs
	}
	return func(v any) (any, error) {
		low, high := compare(v, args[0]), compare(v, args[1])
		return low > 0 && high < 0 || ends && low >= 0 && high <= 0, nil
	}, nil
}

func setMember(args []any) (filter, error) {
	if len(args) == 1 {
		if list, ok := args[0].([]any); ok {
			args = list // either way to write a set
		}
	}
	return func(v any) (any, error) {
		return slices.ContainsFunc(args, func(e any) bool { return compare(v, e) == 0 }), nil
	}, nil
}

// textCondition is a condition on a text that has one for an argument.
func textCondition(holds func(s, arg string) bool) func([]any) (filter, error) {
	return func(args []any) (filter, error) {
		if len(args) != 1 {
			return nil, errArgs
		}
		arg, ok := args[0].(string)
		if !ok {
			return nil, errArgs
		}
		return func(v any) (any, error) {
			s, ok := v.(string)
			if !ok {
				return nil, errText
			}
			return holds(s, arg), nil
		}, nil
	}
}

func matches(args []any) (filter, error) {
	if len(args) != 1 {
		return nil, errArgs
	}
	pattern, ok := args[0].(string)
	if !ok || len(pattern) > kv.MaxTermRegex {
		return nil, errArgs
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	return textCondition(func(s, _ string) bool { return re.MatchString(s) })(args)
}

// similarTo holds for texts that so many insertions, deletions and replacements of
// characters make the wanted one.
func similarTo(args []any) (filter, error) {
	if len(args) != 2 {
		return nil, errArgs
	}
	want, ok := args[0].(string)
	most, isInt := args[1].(int64)
	if !ok || !isInt || most < 0 || len(want) > maxSimilar {
		return nil, errArgs
	}
	return func(v any) (any, error) {
		s, ok := v.(string)
		if !ok {
			return nil, errText
		}
		return int64(distance(s, want)) <= most, nil
	}, nil
}

// distance is how many insertions, deletions and replacements make a text the other.
//
// row[j] is the distance of the part of a that was read from the first j characters of b.
func distance(a, b string) int {
	to := []rune(b)
	row := make([]int, len(to)+1)
	for j := range row {
		row[j] = j
	}
	i := 0
	for len(a) > 0 {
		c, n := utf8.DecodeRuneInString(a)
		a = a[n:]
		i++
		diagonal := row[0]
		row[0] = i
		for j := range to {
			replaced := diagonal
			if to[j] != c {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(to)]
}
