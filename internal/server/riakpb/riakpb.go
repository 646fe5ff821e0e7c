// Package riakpb is Riak's Protocol Buffers protocol: the codes, the messages,
// and how they stand on a connection. A message is
//
//	length   4 bytes, big-endian, of all that follows
//	code     1 byte
//	body     the message, in the encoding of Protocol Buffers
//
// The messages are made from the .proto files by "make generate"; a test beside
// them finds code that is older than they are.
package riakpb

//go:generate ./generate.sh

// Code says what a message is.
type Code byte

// The codes of the messages, requests and answers.
const (
	Error              Code = 0
	PingReq            Code = 1
	PingResp           Code = 2
	GetClientIDReq     Code = 3
	GetClientIDResp    Code = 4
	SetClientIDReq     Code = 5
	SetClientIDResp    Code = 6
	ServerInfoReq      Code = 7
	ServerInfoResp     Code = 8
	GetReq             Code = 9
	GetResp            Code = 10
	PutReq             Code = 11
	PutResp            Code = 12
	DelReq             Code = 13
	DelResp            Code = 14
	ListBucketsReq     Code = 15
	ListBucketsResp    Code = 16
	ListKeysReq        Code = 17
	ListKeysResp       Code = 18
	GetBucketReq       Code = 19
	GetBucketResp      Code = 20
	SetBucketReq       Code = 21
	SetBucketResp      Code = 22
	MapRedReq          Code = 23
	MapRedResp         Code = 24
	IndexReq           Code = 25
	IndexResp          Code = 26
	SearchQueryReq     Code = 27
	ResetBucketReq     Code = 29
	ResetBucketResp    Code = 30
	GetBucketTypeReq   Code = 31
	SetBucketTypeReq   Code = 32
	PreflistReq        Code = 33
	PreflistResp       Code = 34
	CSBucketReq        Code = 40
	CounterUpdateReq   Code = 50
	CounterUpdateResp  Code = 51
	CounterGetReq      Code = 52
	CounterGetResp     Code = 53
	IndexGetReq        Code = 54 // of search, as the next three
	IndexPutReq        Code = 56
	IndexDeleteReq     Code = 57
	SchemaGetReq       Code = 58
	SchemaPutReq       Code = 60
	CoverageReq        Code = 70
	DataFetchReq       Code = 80
	DataFetchResp      Code = 81
	DataUpdateReq      Code = 82
	DataUpdateResp     Code = 83
	ToggleEncodingReq  Code = 110
	ProxyGetReq        Code = 128 // of Riak's replication, as the next ones
	RTEnqueueReq       Code = 200
	FetchReq           Code = 202
	PushReq            Code = 204
	MembershipReq      Code = 206
	FirstAAEFold       Code = 210 // to LastAAEFold: requests of folds over the trees of anti-entropy
	LastAAEFold        Code = 231
	FirstTimeSeriesReq Code = 90 // to LastTimeSeriesReq
	LastTimeSeriesReq  Code = 104
	RingReq            Code = 240 // our own, as the next one
	RingResp           Code = 241
	AuthReq            Code = 253
	AuthResp           Code = 254
	StartTLS           Code = 255
)

// The numbers that stand for words in the field of a quorum.
const (
	QuorumOne      uint32 = 1<<32 - 2
	QuorumMajority uint32 = 1<<32 - 3 // "quorum"
	QuorumAll      uint32 = 1<<32 - 4
	QuorumDefault  uint32 = 1<<32 - 5
)

// LengthSize is how many bytes the length of a message has.
const LengthSize = 4
