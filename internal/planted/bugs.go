package planted

// Bug names a deliberate mistake.
type Bug string

// The bugs. Each is one line of protocol code done wrong; the simulation must
// find every one of them.
const (
	AckBeforeDurable  Bug = "ack-before-durable"  // vnode: replies released before the batch is durable
	AckNoopEarly      Bug = "ack-noop-early"      // vnode: a write that changes nothing is acknowledged before the write it repeats is durable
	ReuseActor        Bug = "reuse-actor"         // node: after a crash the vnode goes on with its old actor, counting from zero
	SharedActor       Bug = "shared-actor"        // node: one actor for all vnodes of a node
	NoDots            Bug = "no-dots"             // object: siblings are compared by clock alone, so all survive
	ContextIgnored    Bug = "context-ignored"     // vnode: a write replaces everything stored here, seen or not
	StoreOverwrites   Bug = "store-overwrites"    // vnode: a replica stores what it is sent without merging
	HeadCacheStale    Bug = "head-cache-stale"    // vnode: the head cache is not updated by a replica write
	CountWMinusOne    Bug = "count-w-minus-one"   // coordinator: a put needs one acknowledgement less than asked
	CountDuplicates   Bug = "count-duplicates"    // quorum: a replica that answers twice counts twice
	GetFirstAnswer    Bug = "get-first-answer"    // coordinator: a get returns the first of R answers, unmerged
	RepairReplaces    Bug = "repair-replaces"     // coordinator: read repair sends the first answer instead of the merged object
	RepairSkipsAbsent Bug = "repair-skips-absent" // coordinator: read repair forgets replicas that have nothing
	ForwardAgain      Bug = "forward-again"       // coordinator: a forwarded put in doubt is sent to another node
	DeleteBlind       Bug = "delete-blind"        // coordinator: a delete replaces nothing of what it has read
	DeleteErases      Bug = "delete-erases"       // vnode: a delete removes the object instead of keeping a tombstone
	NeverUp           Bug = "never-up"            // membership: a node once down is never held to be up again
	MapOrder          Bug = "map-order"           // coordinator: the order of effects follows a Go map
	ReceiptBlind      Bug = "receipt-blind"       // coordinator: a put returns a context that covers siblings its writer has not seen
	LostAsRefused     Bug = "lost-as-refused"     // coordinator: a write without an answer is reported as certainly not done
	NoFence           Bug = "no-fence"            // handoff: a vnode carries out requests that go by an older topology
	SingleQuorum      Bug = "single-quorum"       // coordinator: during a transfer a write needs a quorum of the present owners only
	FilledEarly       Bug = "filled-early"        // handoff: a receiver reports that it has all after the first page
	DropUnconfirmed   Bug = "drop-unconfirmed"    // handoff: data is dropped when it was sent, not when it is held
	DropChanged       Bug = "drop-changed"        // vnode: data is dropped even if it has changed since it was sent
	DropKeepsActor    Bug = "drop-keeps-actor"    // vnode: a vnode that has dropped data goes on as the same actor
	FallbackAbsent    Bug = "fallback-absent"     // coordinator: a fallback that holds nothing counts as a replica without the key
	FallbackTwice     Bug = "fallback-twice"      // coordinator: a primary and the fallback that stands in for it count as two
	FallbackEarly     Bug = "fallback-early"      // quorum: a fallback counts for a primary that is slow, but up
	SettleEarly       Bug = "settle-early"        // membership: a transfer is over before those who matter know of it
	AnyPlan           Bug = "any-plan"            // membership: a commit does not ask which plan was shown
	LackingAnswers    Bug = "lacking-answers"     // vnode: a vnode that still waits for its data answers reads
	ExpiryUnseen      Bug = "expiry-unseen"       // object: an expired value is seen until its bytes are given back
	ExpiryErases      Bug = "expiry-erases"       // vnode: an expired object is removed, and not kept as a tombstone
	ExpiryHasty       Bug = "expiry-hasty"        // vnode: the bytes of a value go when this node's own clock says so
	RotUnseen         Bug = "rot-unseen"          // object: the checksum of the values is not looked at
	RotForgiven       Bug = "rot-forgiven"        // vnode: a vnode that has replaced a corrupt object answers reads as if it had lost nothing
	FullGrants        Bug = "full-grants"         // coordinator: a replica whose disk is full counts as one that has stored the write
	ExchangeSkips     Bug = "exchange-skips"      // antientropy: the odd ones of the segments that differ are passed over
	MendSkipsAbsent   Bug = "mend-skips-absent"   // antientropy: a key that the other side does not have is not sent there
	MendOverwrites    Bug = "mend-overwrites"     // vnode: what anti-entropy brings replaces what is stored, unmerged
	TreeKeepsDropped  Bug = "tree-keeps-dropped"  // vnode: the hash tree goes on speaking of what was dropped
	ReapAtOnce        Bug = "reap-at-once"        // reap: tombstones are removed after the first survey
	ReapUnasked       Bug = "reap-unasked"        // reap: the last place is not asked whether it has the tombstone
	ReapStrays        Bug = "reap-strays"         // reap: nobody is asked what he holds for others
	ReapWithoutDown   Bug = "reap-without-down"   // reap, membership: members that are down are not waited for
	ReapUnfenced      Bug = "reap-unfenced"       // handoff: versions from before the mark are taken
	ReapChanged       Bug = "reap-changed"        // vnode: a tombstone is reaped even if something else has taken its place
	GraveKept         Bug = "grave-kept"          // vnode: the index of tombstones goes on naming what lives again
	LatestByDot       Bug = "latest-by-dot"       // object: of several writes the last one is found by its dot, and not by its stamp
	LatestListsAll    Bug = "latest-lists-all"    // vnode: a listing shows keys whose last write is a delete, for an older value beside it
	Unguarded         Bug = "unguarded"           // vnode: a conditional write does not look at what is there when it is made
	ClockUnguarded    Bug = "clock-unguarded"     // coordinator: a node whose clock is off says which write is the last
	FirstStateOnly    Bug = "first-state-only"    // crdt: of several siblings only the first one's state is taken, unmerged
	ContextWritten    Bug = "context-written"     // vnode: an operation's object says that it has seen what only its client has
	NamesForgotten    Bug = "names-forgotten"     // crdt: an object remembers the id of its last operation only
	BeginsUnseen      Bug = "begins-unseen"       // vnode: what begins anew after a delete does not say that it has seen what was deleted
	DeleteUnseen      Bug = "delete-unseen"       // vnode: a delete of a data type replaces what its client has not seen
	IndexKept         Bug = "index-kept"          // vnode: a delete leaves the index entries of what it has replaced
	IndexOneSided     Bug = "index-one-sided"     // vnode: index entries change with what a vnode makes, and not with what it is sent
	BucketsDead       Bug = "buckets-dead"        // vnode: a bucket is listed that holds nothing but tombstones
	OutdatedMerged    Bug = "outdated-merged"     // handoff: a disk from before a reaping is repaired, and not erased first
	WipeTakesOwn      Bug = "wipe-takes-own"      // vnode: a disk from before a reaping is erased with what only it has taken since
)
