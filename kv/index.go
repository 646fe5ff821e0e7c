package kv

import (
	"context"
	"encoding/binary"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The limits of secondary indexes.
const (
	MaxIndexField = 1 << 10  // bytes in the name of a field
	MaxIndexTerm  = 32 << 10 // bytes in a term
	MaxTermRegex  = 4 << 10  // bytes in an expression for terms
)

// The fields that every bucket has without being told.
const (
	IndexBucket = "$bucket" // all keys of the bucket
	IndexKey    = "$key"    // the keys themselves are the terms
)

// The ends of fields' names, which say what their terms are.
const (
	suffixInt = "_int" // numbers of 64 bits
	suffixBin = "_bin" // bytes
)

// IndexQuery asks for the keys of a bucket whose values have an index entry.
type IndexQuery struct {
	// Field is the name of the index: it ends in _int or _bin, in any case of
	// letters, or is IndexKey or IndexBucket.
	Field string

	// Start is the term that is wanted; of a Range, the first one, and End is the
	// last. They are decimal numbers if the field is of numbers. A query of
	// IndexBucket needs neither.
	Start, End string
	Range      bool

	// TermRegex wants only terms in which this expression is found, in the syntax
	// of Go's package regexp. Empty: all of them.
	TermRegex string

	// Sort brings the matches in the order of term and key through all pages.
	// Otherwise they come in no order, with less work.
	Sort bool

	Limit   int           // matches in a page at most; 0: DefaultPage; MaxPage at most
	Token   string        // where to go on: IndexPage.Next of the same query; empty: the start
	Timeout time.Duration // for the page; 0: DefaultTimeout. The context's deadline holds as well
}

// IndexMatch is a key and the term by which it was found. A key whose values have
// several of the terms that are wanted is found by each.
type IndexMatch struct {
	Term string // a number is in decimal; of IndexBucket, the bucket
	Key  string
}

// IndexPage is a piece of what a query finds, each match once.
type IndexPage struct {
	Matches []IndexMatch
	Next    string // IndexQuery.Token of the next page; empty: this is the last
}

// Indexer is a Store that can be queried by what its values have in Indexes.
type Indexer interface {
	// Index answers a page of a query. Entries are written with the values, so that
	// a query finds what a read would see; what is written or deleted meanwhile may
	// or may not be in it.
	Index(ctx context.Context, b Bucket, q IndexQuery) (IndexPage, error)
}

// BucketPage is a piece of the names of buckets, in order.
type BucketPage struct {
	Buckets []string
	Next    string // ListOptions.Token of the next page; empty: this is the last
}

// BucketLister is a Store that can tell which buckets it holds.
type BucketLister interface {
	// Buckets lists a page of the buckets of a type that have any live key, those with
	// shorter names first, and of equal length by their bytes. An empty type is the
	// default one.
	Buckets(ctx context.Context, bucketType string, o ListOptions) (BucketPage, error)
}

// Index is an index entry that was understood.
type Index struct {
	Field string // the field's name in small letters
	Sorts string // the term, so that comparing bytes is comparing terms
}

// ParseIndex reads an index entry of a value. The error is an *InvalidError in Riak's
// words.
func ParseIndex(p Pair) (Index, error) {
	field, err := parseField(p.Name)
	if err != nil {
		return Index{}, err
	}
	if field == IndexKey || field == IndexBucket {
		return Index{}, unknownField(p.Name)
	}
	sorts, err := SortIndexTerm(field, p.Value)
	return Index{field, sorts}, err
}

// ValidateIndexes reports whether all index entries of the value can be understood.
func (v *Value) ValidateIndexes() error {
	for _, p := range v.Indexes {
		if _, err := ParseIndex(p); err != nil {
			return err
		}
	}
	return nil
}

func unknownField(name string) error {
	return &InvalidError{What: "Unknown field type for field:", Problem: "'" + name + "'."}
}

// parseField is the name of a field as it is kept.
func parseField(name string) (string, error) {
	if err := within("index field", len(name), MaxIndexField); err != nil {
		return "", err
	}
	field := strings.ToLower(name)
	switch {
	case field == IndexKey, field == IndexBucket, strings.HasSuffix(field, suffixInt), strings.HasSuffix(field, suffixBin):
		return field, within("index field", len(field), MaxIndexField)
	}
	return "", unknownField(name)
}

// SortIndexTerm is a term of a field so that comparing bytes is comparing terms.
func SortIndexTerm(field, term string) (string, error) {
	if !strings.HasSuffix(field, suffixInt) {
		limit := MaxIndexTerm
		if field == IndexKey {
			limit = MaxKey
		}
		return term, within("index term", len(term), limit)
	}
	n, err := strconv.ParseInt(term, 10, 64)
	if err != nil {
		return "", &InvalidError{What: "Could not parse field", Problem: "'" + field + "', value '" + term + "'."}
	}
	return string(binary.BigEndian.AppendUint64(nil, uint64(n)^(1<<63))), nil
}

// ShowIndexTerm is the term of which SortIndexTerm has made this.
func ShowIndexTerm(field, sorts string) string {
	if !strings.HasSuffix(field, suffixInt) || len(sorts) != 8 {
		return sorts
	}
	return strconv.FormatInt(int64(binary.BigEndian.Uint64([]byte(sorts))^(1<<63)), 10)
}

// Span is what a query asks for, understood: the field, and the first and the last term as
// they sort. The error is an *InvalidError, in Riak's words where Riak has the error.
func (q *IndexQuery) Span() (field, start, end string, err error) {
	if field, err = parseField(q.Field); err != nil {
		return "", "", "", err
	}
	if field == IndexBucket {
		return field, "", "", q.checkRegex(field)
	}
	if start, err = SortIndexTerm(field, q.Start); err != nil {
		return "", "", "", err
	}
	end = start
	if q.Range {
		if end, err = SortIndexTerm(field, q.End); err != nil {
			return "", "", "", err
		}
	}
	if start > end {
		return "", "", "", &InvalidError{What: "Invalid range query:", Problem: "it ends before it begins"}
	}
	return field, start, end, q.checkRegex(field)
}

// Inverted reports whether the query is of a range that ends before it begins. Span refuses
// it; Riak's clients expect that it finds nothing.
func (q *IndexQuery) Inverted() bool {
	field, err := parseField(q.Field)
	if err != nil || !q.Range || field == IndexBucket {
		return false
	}
	start, errStart := SortIndexTerm(field, q.Start)
	end, errEnd := SortIndexTerm(field, q.End)
	return errStart == nil && errEnd == nil && start > end
}

// ListsKeys reports whether the query is a list of a bucket's keys by another name.
func (q *IndexQuery) ListsKeys() bool {
	return strings.EqualFold(q.Field, IndexBucket) || q.Range && strings.EqualFold(q.Field, IndexKey)
}

// checkRegex reports whether the terms of the field can be held against the expression.
func (q *IndexQuery) checkRegex(field string) error {
	if q.TermRegex == "" {
		return nil
	}
	if strings.HasSuffix(field, suffixInt) {
		return &InvalidError{What: "Can not use term regular expression", Problem: "in integer query"}
	}
	if err := within("term regular expression", len(q.TermRegex), MaxTermRegex); err != nil {
		return err
	}
	if _, err := regexp.Compile(q.TermRegex); err != nil {
		return &InvalidError{What: "Invalid term regular expression", Problem: strconv.Quote(q.TermRegex) + ": " + err.Error()}
	}
	return nil
}
