package providertest

// The sentences of the contract that the tests hold a provider to, word for
// word: a failure quotes one. A test of this package compares them with the doc
// comments of tokencache.
const (
	ruleConcurrent     = "Implementations are safe for concurrent use."
	ruleContext        = "They honour the context, and report its end as an error of their own or as ctx.Err(), never as ErrNotFound."
	ruleReadYourWrites = "What a Save that returned nil wrote, every Load that starts afterwards sees (read your writes), on every machine if the backend is shared."
	ruleSlices         = "Slices are not shared: Save copies what it keeps, and the caller may change what Load returned."
	ruleAmbiguous      = "the caller finds out by loading it and comparing versions."

	ruleLoadRemoved  = "A removed partition is a record too"
	ruleNotFound     = "The error is ErrNotFound if there is none or if it has expired"
	ruleLoadTooLarge = "ErrTooLarge if the stored bytes exceed what the provider accepts in Save."
	ruleLoadMark     = "Record.Mark is the owner's current removal mark, zero if there is none, also along with ErrNotFound"

	ruleSave          = "Save stores the record under name if the condition holds, all or nothing."
	ruleConflict      = "ErrConflict if the condition does not hold: another version is stored, something is stored where nothing should be, or nothing is stored where a version was expected."
	ruleNoInsert      = "Updating never inserts."
	ruleRemoved       = "ErrRemoved if the owner has a removal mark that differs from Record.Mark"
	rulePrecedence    = "It takes precedence over ErrConflict."
	ruleTombstoneMark = "Saving a tombstone does not look at the mark."
	ruleTooLarge      = "ErrTooLarge if the record is larger than the provider accepts, which must be at least MaxSealedSize."
	ruleCapabilities  = "The answer does not change during the provider's life."
	ruleNilField      = "A nil field is not offered."

	ruleName          = "Both parts are keyed hashes in unpadded base64url (43 characters, RFC 4648 §5)"
	ruleTombstone     = "None (nil or empty) means that the partition has been removed: the record is a tombstone."
	ruleLikeAnyRecord = "A tombstone has a version and an expiry like any record, and conditions treat it like any record."
	ruleExpires       = "Expires is when the record vanishes"
	ruleNever         = "The zero time means never."
	ruleIfAbsent      = "The zero Condition is: only if nothing is stored under the name. A tombstone is something; a record that has expired is nothing."
	ruleAlways        = "Always is the condition that always holds."

	ruleMarkUntil   = "SetMark sets the owner's removal mark until it expires."
	ruleMarkRefuses = "From then on Save refuses records that carry another mark with ErrRemoved."
	ruleMarkReplace = "An earlier mark is replaced."
	ruleMarkFirst   = "The mark comes first, so that a partition being created meanwhile, by a writer that saw the mark before, is refused."
	ruleList        = "List returns the names of the owner's partitions that are neither removed nor expired, in no order."
	ruleListEmpty   = "No partition is not an error."

	ruleAcquire      = "Acquire takes the lease on name for ttl, without waiting."
	ruleBusy         = "The error is ErrBusy if another holds it; any other error means that the backend could not tell."
	ruleRunOut       = "A lease that has run out may be taken by anyone."
	ruleLeaseAdvice  = "A lease is advice"
	ruleRenew        = "Renew extends the lease to ttl from now."
	ruleRenewLost    = "The error is ErrConflict if the lease has run out, whether or not another holds it now."
	ruleRelease      = "Release gives the lease back."
	ruleReleaseAfter = "Releasing a lease that was lost does nothing to its new holder and is not an error."

	ruleTouch        = "Touch sets the expiry of the record under name if it has the version v."
	ruleTouchErrors  = "The error is ErrConflict if it has another and ErrNotFound if there is none."
	ruleTouchContent = "Toucher extends an expiry without rewriting the record."

	ruleWatch       = "Watch calls notify for each change of a record until ctx ends, and then returns ctx.Err()."
	ruleWatchMissed = "It starts with a Change that is Missed"
	ruleWatchLost   = "and sends another one whenever changes may have been lost"
	ruleWatchLast   = "Of a record that has changed again meanwhile, the last change may stand for those before."
	ruleWatchOwn    = "Changes made through the same provider value are told too."

	ruleWatchReplaced = "Replaced is the version that was there before. Zero means that none was, or that the provider cannot tell."

	ruleSweep = "Sweep removes expired records, tombstones and marks, and returns how many."
	rulePing  = "Ping returns nil if the backend answers."

	ruleNames  = "Names returns a page of the names under which something is stored, tombstones included, and where the next page begins."
	rulePage   = "A page has at most some hundred names, or none."
	ruleNamed  = "What is there from the first page to the last is named at least once."
	ruleCursor = "The error is ErrCursor for one that is not of this store, as far as can be told."
)
