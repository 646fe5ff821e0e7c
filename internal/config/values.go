package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bytes is a size, or a rate of bytes a second.
type Bytes int64

// units are those of sizes: the longest names first, and of two that are equally long
// the larger one.
var units = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3},
	{"B", 1},
}

// ParseBytes reads a whole number, and a unit if there is one: 1000, 64KiB, 10MB.
func ParseBytes(s string) (Bytes, error) {
	number, unit := s, int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(number, u.name); ok {
			number, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	v, err := strconv.ParseInt(number, 10, 64)
	if err != nil || v < 0 || v > math.MaxInt64/unit {
		return 0, fmt.Errorf("%q is not a number of bytes, such as 1000, 64KiB or 10MB", clip(s))
	}
	return Bytes(v * unit), nil
}

// String is the size in the largest unit of 1024 that gives a whole number.
func (b Bytes) String() string {
	for _, u := range units[:4] {
		if n := int64(b); n != 0 && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// parse reads a value into the field of an option. The problem, if there is one, goes on
// after the option's name: `is "x"; …`.
func (o *Option) parse(field any, text string) (problem string) {
	switch p := field.(type) {
	case *string:
		return o.parseText(p, text)
	case *bool:
		v, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Sprintf("is %q; it must be true or false", clip(text))
		}
		*p = v
	case *[]string:
		return o.parseList(p, text)
	default:
		return o.parseNumber(field, text)
	}
	return ""
}

// parseText reads a word or a text.
func (o *Option) parseText(p *string, text string) string {
	if len(o.Words) > 0 && !slices.Contains(o.Words, text) {
		return fmt.Sprintf("is %q; it must be one of %s", clip(text), strings.Join(o.Words, ", "))
	}
	if o.Check != nil && text != "" {
		if err := o.Check(text); err != nil {
			return fmt.Sprintf("is %q; %v", clip(text), err)
		}
	}
	*p = text
	return ""
}

// parseList reads values with commas between them.
func (o *Option) parseList(p *[]string, text string) string {
	var list []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		if o.Check != nil {
			if err := o.Check(part); err != nil {
				return fmt.Sprintf("has %q; %v", clip(part), err)
			}
		}
		list = append(list, part)
	}
	*p = list
	return ""
}

// parseNumber reads a count, a size or a duration, and holds it to the range.
func (o *Option) parseNumber(field any, text string) string {
	var v int64
	var err error
	switch field.(type) {
	case *int:
		if v, err = strconv.ParseInt(text, 10, 64); err != nil {
			return fmt.Sprintf("is %q; it must be a whole number, %s", clip(text), o.Range())
		}
	case *Bytes:
		var b Bytes
		if b, err = ParseBytes(text); err != nil {
			return fmt.Sprintf("is %q, which is not a number of bytes, such as 1000, 64KiB or 10MB", clip(text))
		}
		v = int64(b)
	case *time.Duration:
		var d time.Duration
		if d, err = time.ParseDuration(text); err != nil {
			return fmt.Sprintf("is %q, which is not a time with its unit, such as 500ms, 10s or 1h30m", clip(text))
		}
		v = int64(d)
	}
	inside := v >= o.Min && v <= o.Max && (!o.PowerOfTwo || v&(v-1) == 0)
	if !inside && (v != 0 || o.Zero == "") {
		return fmt.Sprintf("is %s; it must be %s", clip(text), o.Range())
	}
	switch p := field.(type) {
	case *int:
		*p = int(v)
	case *Bytes:
		*p = Bytes(v)
	case *time.Duration:
		*p = time.Duration(v)
	}
	return ""
}

// format is a value as parse reads it.
func format(field any) string {
	switch p := field.(type) {
	case *string:
		return *p
	case *bool:
		return strconv.FormatBool(*p)
	case *[]string:
		return strings.Join(*p, ",")
	case *int:
		return strconv.Itoa(*p)
	case *Bytes:
		return p.String()
	case *time.Duration:
		return shortDuration(*p)
	}
	panic(fmt.Sprintf("config: no option has a field of type %T", field))
}

// shortDuration is a duration without the zeros at its end: 1h, not 1h0m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// kind is what the values of an option are, for people.
func (o *Option) kind() string {
	switch o.field(&Server{}).(type) {
	case *bool:
		return "true or false"
	case *[]string:
		return "list"
	case *int:
		return "number"
	case *Bytes:
		return "size"
	case *time.Duration:
		return "duration"
	}
	return "text"
}

// Range says which values an option takes; empty: any.
func (o *Option) Range() string {
	if len(o.Words) > 0 {
		return strings.Join(o.Words, ", ")
	}
	show := func(v int64) string { return strconv.FormatInt(v, 10) }
	switch o.field(&Server{}).(type) {
	case *Bytes:
		show = func(v int64) string { return Bytes(v).String() }
	case *time.Duration:
		show = func(v int64) string { return shortDuration(time.Duration(v)) }
	case *int:
	default:
		return ""
	}
	s := "from " + show(o.Min) + " to " + show(o.Max)
	if o.PowerOfTwo {
		s = "a power of two " + s
	}
	if o.Zero != "" {
		s += ", or 0: " + o.Zero
	}
	return s
}
