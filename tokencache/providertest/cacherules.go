package providertest

// The promises of tokencache that RunCache holds a Cache and its provider to,
// word for word, like the rules of the contract.
const (
	promiseOwner     = "It hands them to the requests of their owner and nobody else"
	promiseOnce      = "However many callers ask at once, on however many machines, the server is asked once."
	promiseSpend     = "one lease among machines, the partition read again, and only then the refresh token spent."
	promiseMerge     = "The answer is saved at once, on a context that outlives the request, if nothing else was saved meanwhile; otherwise both changes are merged."
	promiseJoin      = "Signing in to a partition that is in use joins it: the browsers of one user share their tokens."
	promiseL1        = "Partition.Token looks in this process (L1), then in the provider, and then asks the authorization server"
	promiseNobodyOut = "Something is down, and nobody is signed out because of it"
	promiseKept      = "New tokens that cannot be stored are kept and stored later; Cache.Close waits for that."
	promiseTooLarge  = "ErrTooLarge means that the tokens of one partition exceed MaxTokensSize."
	promiseLargest   = "MaxTokensSize is the largest partition, in bytes of its decoded form."
	promiseNoLeases  = "Without it, two machines may spend one refresh token at the same moment"

	promiseMaxAge     = "the bound on how long a change by another machine goes unseen when the provider does not tell of it"
	promiseWatch      = "Without it, their copies live on in this process until Options.L1MaxAge."
	promiseLocal      = "Load is quick and answers with what is stored at that moment, whoever wrote it, as reading a file does."
	promiseSignOut    = "Other sessions of the same account are then without tokens, on other machines as soon as their copies end"
	promiseRemoved    = "ErrRemoved means that the partition was removed: the user signed out."
	promiseSignIn     = "A sign-in may replace what a refresh may not: a removed partition, or one that cannot be read."
	promiseTicket     = "A ticket from before a sign-out opens nothing afterwards, even when the same user has signed in again"
	promiseEverywhere = "SignOutEverywhere removes every partition that the account owns, whatever its kind"
	promiseSID        = "SignOutSID signs out what was signed in from one session at the authorization server (Grant.SID), on whatever machine."
	promiseRefused    = "What is being created or refreshed at the moment is refused when it comes to be stored."
	promiseLateSignIn = "If the user signed out everywhere, or of this account, after exchange was called, SignIn fails with ErrRemoved."

	promiseHashes     = "The provider sees neither accounts nor keys, but their HMACs (Name)."
	promiseSealed     = "Whoever can write to the backend cannot read, alter, swap or forge tokens"
	promiseBound      = "A KeyRing seals each record with AES-256-GCM, bound to its name, its version and the namespace."
	promiseUnreadable = "It is kept; a new sign-in replaces it."

	promiseIdle  = "IdleTimeout is how long a user's partition lives after it was last used, and up to a twentieth longer"
	promiseTouch = "Toucher extends an expiry without rewriting the record."
)
