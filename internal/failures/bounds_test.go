package failures_test

import "time"

// How long requests may take, by what the options of tokencache say.
const (
	// providerTimeout ends each call to the store (Options.ProviderTimeout).
	providerTimeout = 250 * time.Millisecond
	// saveLimit is how long a request waits for new tokens to be stored. They are
	// then kept, and stored later.
	saveLimit = time.Second

	// hitBound is that of a request whose token is in memory: at most it asks the
	// store for something newer first.
	hitBound = providerTimeout
	// readBound is that of a request whose token is valid, and in the store only.
	readBound = providerTimeout
	// ownRefresh is a lookup, what an earlier refresh could not store (a load and
	// a save), the lease, a load, the server, a save, and the lease's return.
	ownRefresh = providerTimeout + (providerTimeout + saveLimit) +
		providerTimeout + providerTimeout + answerTime + saveLimit + providerTimeout
	// refreshBound is that of a request that has to refresh, perhaps behind
	// somebody else who does.
	refreshBound = 2 * ownRefresh
	// signInBound is the time to look what is stored and the time to save.
	signInBound = 2*time.Second + 5*time.Second
	// signOutBound is the time to remove what is stored.
	signOutBound = 2 * time.Second

	// recoveryBound is from the moment when the store is well until every user
	// gets a token, and a new one, on every machine.
	recoveryBound = time.Second

	// slack is what a busy machine may add to any of these, and recoverySlack to
	// the time in which everybody gets two new tokens at once.
	slack         = 2 * time.Second
	recoverySlack = 5 * time.Second

	// tooLate is how late a machine may be that is to be judged by its times.
	tooLate = 400 * time.Millisecond

	// copiesLive is how long copies in memory are served (Options.L1MaxAge, 15 s),
	// less what a busy machine takes.
	copiesLive = 14 * time.Second
)
