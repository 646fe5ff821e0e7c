package kv

import (
	"slices"
	"strconv"
	"time"
)

// spec is one property: how its value is read, and how it prints.
type spec struct {
	name string
	get  func(*Props) string
	set  func(*Props, string) (problem string) // empty: none
}

// specs are all properties, in the order of their names.
var specs = []spec{
	truth("allow_mult", func(p *Props) *bool { return &p.AllowMult }),
	only("backend", "default"),
	truth("basic_quorum", func(p *Props) *bool { return &p.BasicQuorum }),
	keptNumber("big_vclock", "50"),
	only("chash_keyfun", `{"fun":"chash_std_keyfun","mod":"riak_core_util"}`),
	only("consistent", "false"),
	{"datatype", func(p *Props) string { return p.DataType }, setDataType},
	{"delete_mode", func(p *Props) string { return p.DeleteMode }, setDeleteMode},
	keptWord("dvv_enabled", "true", "false", "true"),
	quorum("dw", func(p *Props) *Quorum { return &p.DW }),
	number("hll_precision", func(p *Props) *int { return &p.Precision }, 4, 16),
	truth("last_write_wins", func(p *Props) *bool { return &p.LastWriteWins }),
	only("linkfun", `{"fun":"mapreduce_linkfun","mod":"riak_kv_wm_link_walker"}`),
	number("n_val", func(p *Props) *int { return &p.N }, 1, maxReplicas),
	number("node_confirms", func(p *Props) *int { return &p.NodeConfirms }, 0, maxReplicas),
	truth("notfound_ok", func(p *Props) *bool { return &p.NotFoundOK }),
	keptNumber("old_vclock", "86400"),
	only("postcommit", "[]"),
	quorum("pr", func(p *Props) *Quorum { return &p.PR }),
	only("precommit", "[]"),
	quorum("pw", func(p *Props) *Quorum { return &p.PW }),
	quorum("r", func(p *Props) *Quorum { return &p.R }),
	keptWord("repl", "false", "false", "true", "realtime", "fullsync"),
	keptQuorum("rw"),
	only("search", "false"),
	number("siblings_maximum", func(p *Props) *int { return &p.SiblingMax }, 1, MaxSiblings),
	number("siblings_warning", func(p *Props) *int { return &p.SiblingWarn }, 1, MaxSiblings),
	number("size_maximum", func(p *Props) *int { return &p.SizeMax }, 1, MaxObject),
	number("size_warning", func(p *Props) *int { return &p.SizeWarn }, 1, MaxObject),
	truth("sloppy_quorum", func(p *Props) *bool { return &p.SloppyQuorum }),
	keptNumber("small_vclock", "50"),
	keptWord("sync_on_write", "all", "backend", "one", "all"),
	{"ttl", func(p *Props) string { return p.TTL.String() }, setTTL},
	quorum("w", func(p *Props) *Quorum { return &p.W }),
	keptWord("write_once", "false", "false", "true"),
	keptNumber("young_vclock", "20"),
}

func specOf(name string) (s spec, known bool) {
	i := slices.IndexFunc(specs, func(s spec) bool { return s.name == name })
	if i < 0 {
		return spec{}, false
	}
	return specs[i], true
}

func truth(name string, at func(*Props) *bool) spec {
	return spec{name,
		func(p *Props) string { return strconv.FormatBool(*at(p)) },
		func(p *Props, v string) string {
			if v != "true" && v != "false" {
				return "it must be true or false"
			}
			*at(p) = v == "true"
			return ""
		},
	}
}

func number(name string, at func(*Props) *int, low, high int) spec {
	return spec{name,
		func(p *Props) string { return strconv.Itoa(*at(p)) },
		func(p *Props, v string) string {
			n, err := strconv.Atoi(v)
			if err != nil || n < low || n > high {
				return "it must be a number from " + strconv.Itoa(low) + " to " + strconv.Itoa(high)
			}
			*at(p) = n
			return ""
		},
	}
}

func quorum(name string, at func(*Props) *Quorum) spec {
	return spec{name,
		func(p *Props) string { return at(p).String() },
		func(p *Props, v string) string {
			q, problem := readQuorum(v)
			if problem == "" {
				*at(p) = q
			}
			return problem
		},
	}
}

// readQuorum reads a quorum that is one: not the word for what is above it.
func readQuorum(v string) (Quorum, string) {
	q, err := ParseQuorum(v)
	if err != nil || q == Default || int(q) > maxReplicas {
		return 0, "it must be a number from 0 to " + strconv.Itoa(maxReplicas) + " or one of one, quorum, all"
	}
	return q, ""
}

// kept is a property that is shown as it was set, and changes nothing.
func kept(name, def string, problem func(string) string) spec {
	return spec{name,
		func(p *Props) string {
			if v := p.kept.Lookup(name); v != "" {
				return v
			}
			return def
		},
		func(p *Props, v string) string {
			if problem := problem(v); problem != "" {
				return problem
			}
			p.kept = p.kept.Over(Properties{{name, v}})
			return ""
		},
	}
}

func keptNumber(name, def string) spec {
	return kept(name, def, func(v string) string {
		if n, err := strconv.Atoi(v); err != nil || n < 0 {
			return "it must be a number"
		}
		return ""
	})
}

func keptWord(name, def string, words ...string) spec {
	return kept(name, def, func(v string) string {
		if !slices.Contains(words, v) {
			return "it must be one of " + join(words)
		}
		return ""
	})
}

func keptQuorum(name string) spec {
	return kept(name, Majority.String(), func(v string) string {
		_, problem := readQuorum(v)
		return problem
	})
}

// only is a property that has one value here.
func only(name, value string) spec {
	return kept(name, value, func(v string) string {
		if v != value {
			return "only " + value + " is supported"
		}
		return ""
	})
}

func join(words []string) string {
	s := words[0]
	for _, w := range words[1:] {
		s += ", " + w
	}
	return s
}

func setDataType(p *Props, v string) string {
	if k := ParseKind(v); !k.TopLevel() {
		return "it must be one of counter, set, gset, hll, map"
	}
	p.DataType = v
	return ""
}

func setDeleteMode(p *Props, v string) string {
	switch v {
	case deleteKeep, deleteReap:
		p.DeleteMode = v
		return ""
	case deleteImmediate:
		p.DeleteMode = deleteReap
		return ""
	}
	ms, err := strconv.Atoi(v)
	if err != nil || ms < 0 || ms > int(MaxDeleteGrace/time.Millisecond) {
		return "it must be reap, keep, immediate or a number of milliseconds up to a year"
	}
	p.DeleteMode = strconv.Itoa(ms)
	return ""
}

// setTTL reads a duration, or a number of seconds.
func setTTL(p *Props, v string) string {
	d, err := time.ParseDuration(v)
	if seconds, numeric := strconv.Atoi(v); numeric == nil && seconds <= int(MaxTTL/time.Second) {
		d, err = time.Duration(seconds)*time.Second, nil
	}
	if err != nil || d < 0 || d > MaxTTL || d%time.Millisecond != 0 {
		return "it must be a duration such as 24h, or seconds, in whole milliseconds up to 100 years; 0 is none"
	}
	p.TTL = d
	return ""
}
