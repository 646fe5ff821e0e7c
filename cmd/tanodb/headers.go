package main

// The headers of requests about one key.
const (
	headerContext = "X-Riak-Vclock"
	headerExpires = "X-Tanodb-Expires"
)
