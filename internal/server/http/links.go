package httpd

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

// Links stand in the Link header, in both directions:
//
//	Link: </buckets/B/keys/K>; riaktag="TAG", </buckets/B>; rel="up"
//
// Answers name the bucket of the key too, by rel="up", which in a request is overlooked.
// On the old routes answers have the old names; requests may have both everywhere. All
// names are escaped as in paths, the tag too. A link is kept as a piece of metadata that
// Protocol Buffers show as a link too.

// errLink answers a Link header that is none of Riak's.
var errLink = badRequest("Invalid Link header. Links must be of the form\n</buckets/BUCKET/keys/KEY>; riaktag=\"TAG\"\n")

// up is the link from a key to its bucket.
func up(t target) string { return "<" + t.bucketPath() + `>; rel="up"` }

// setLinks writes the links among the metadata of a value, and the one to its bucket.
func setLinks(h http.Header, t target, meta []kv.Pair) {
	var b strings.Builder
	for _, p := range meta {
		if l, ok := shownLink(p); ok {
			at := t
			at.key.Bucket = l.Bucket
			b.WriteString("<" + at.keyPath(l.Key) + `>; riaktag="` + url.QueryEscape(l.Tag) + `", `)
		}
	}
	h["Link"] = []string{b.String() + up(t)}
}

// shownLink is the link that a piece of metadata is, if a header can hold it: one that
// came by Protocol Buffers may lack a part.
func shownLink(p kv.Pair) (api.Link, bool) {
	l, ok := api.ParseLink(p)
	return l, ok && l.Bucket != "" && l.Key != ""
}

// parseLinks reads the links of a request as metadata.
func parseLinks(h http.Header, t target) ([]kv.Pair, error) {
	var links []kv.Pair
	for _, rest := range h["Link"] {
		for rest = strings.TrimLeft(rest, " \t,"); rest != ""; rest = strings.TrimLeft(rest, " \t,") {
			path, params, ok := cutLink(&rest)
			if !ok {
				return nil, errLink
			}
			if params["rel"] == "up" {
				continue
			}
			tag, found := params["riaktag"]
			if !found {
				return nil, errLink
			}
			l, err := parseLink(t, path, tag)
			if err != nil {
				return nil, err
			}
			links = append(links, l.Pair())
		}
	}
	return links, nil
}

// parseLink makes a link of what stands in a header.
func parseLink(t target, path, tag string) (api.Link, error) {
	to, err := parsePath(path)
	if err != nil || to.resource != object || to.own || to.key.Type != t.key.Type && to.key.Type != "" {
		return api.Link{}, errLink // a link has no type of its own: it leads to a bucket of the same
	}
	tag, err = url.QueryUnescape(tag)
	if err != nil {
		return api.Link{}, errLink
	}
	return api.Link{Bucket: to.key.Bucket, Key: to.key.Name, Tag: tag}, nil
}

// cutLink cuts the first link, <PATH>; NAME="VALUE"; …, from the text of a header.
func cutLink(rest *string) (path string, params map[string]string, ok bool) {
	after, ok := strings.CutPrefix(*rest, "<")
	if !ok {
		return "", nil, false
	}
	if path, after, ok = strings.Cut(after, ">"); !ok {
		return "", nil, false
	}
	params = map[string]string{}
	for {
		after = strings.TrimLeft(after, " \t")
		if after == "" || after[0] == ',' {
			*rest = after
			return path, params, true
		}
		name, value, found := strings.Cut(after, "=")
		if after[0] != ';' || !found {
			return "", nil, false
		}
		if value, after, ok = cutParam(value); !ok {
			return "", nil, false
		}
		params[strings.ToLower(strings.Trim(name, "; \t"))] = value
	}
}

// cutParam cuts the value of a parameter, quoted or not, from what follows it.
func cutParam(s string) (value, rest string, ok bool) {
	s = strings.TrimLeft(s, " \t")
	if quoted, ok := strings.CutPrefix(s, `"`); ok {
		return strings.Cut(quoted, `"`)
	}
	end := strings.IndexAny(s, ";, \t")
	if end < 0 {
		end = len(s)
	}
	return s[:end], s[end:], true
}
