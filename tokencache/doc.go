// Package tokencache keeps every user's OAuth tokens for a web app or web API.
//
// A [Cache] stores them in a [Provider], which is the backend of your choice,
// encrypted unless they stay in this process. It hands them to the requests of
// their owner and nobody else, and refreshes them once, however many requests and
// machines ask at the same moment.
//
// # Use
//
// An application builds one Cache per authorization server, and usually works
// with it through a client, such as the package xoauth2, and the package
// middleware:
//
//	cache, err := tokencache.New(provider, tokencache.Namespace{
//		Issuer:   "https://login.microsoftonline.com/" + tenant + "/v2.0",
//		ClientID: clientID,
//	}, &tokencache.Options{Keys: keys})
//	client, err := xoauth2.New(ctx, cache, &xoauth2.Options{…})
//	router.Use(middleware.LoadAndSave(cache, middleware.SessionAccount(…)))
//
//	func handler(w http.ResponseWriter, r *http.Request) {
//		token, err := client.Token(r.Context(), "api://tasks/Tasks.Read")
//		…
//	}
//
// # Partitions and keys
//
// Tokens are loaded, saved, refreshed and removed by the partition. A [Key]
// names one: a user's ([AccountKey]), an incoming access token's in a web API
// ([AssertionKey]), the application's own for one resource ([ApplicationKey]), or
// a long-running process's ([SessionKey]). The provider sees neither accounts
// nor keys, but their HMACs ([Name]).
//
// # A request's path
//
// [Partition.Token] looks in this process (L1), then in the provider, and then
// asks the authorization server through a [Server]: one flight in this process,
// one lease among machines, the partition read again, and only then the refresh
// token spent. The answer is saved at once, on a context that outlives the
// request, if nothing else was saved meanwhile; otherwise both changes are
// merged.
//
// # Errors
//
// Three things are never confused. The user must sign in again: [ErrNoTokens], and
// more exactly [ErrRemoved], [ErrUnreadable] and [ErrInvalidGrant]. The user must
// act in the browser: [InteractionRequiredError]. Something is down, and nobody is
// signed out because of it: [ErrUnavailable] for the token store, [ServerError] for
// the authorization server, [ErrBusy] for another machine that is slow.
//
// # Outages
//
// Every call to the provider has a deadline, and a provider that keeps failing
// is asked now and then only. Meanwhile copies in this process are served for
// up to [Options.L1MaxAge], and no user's refresh token is spent. New tokens that
// cannot be stored are kept and stored later; [Cache.Close] waits for that. With
// the authorization server down, tokens are served until they expire.
// [Options.Events] tells of all this.
//
// A store that fails over to a replica may lose what it had acknowledged. For two
// minutes after each save a Cache knows the versions that it has replaced, and
// stores the newer record again, or the removal, when one of them comes back:
// before anything of it is served or spent, and in the background after a watcher
// has lost its connection ([EventRestore]). Other processes hear from the watcher
// what was replaced, do not use what comes back either, and answer
// [ErrUnavailable] for up to 5 seconds until the one that wrote has restored it. So
// nobody is signed out by a failover, and nobody who signed out is signed in again,
// provided that the process which wrote is still running, and that the others had
// heard of it. Of [Partition.SignOutEverywhere], what it had removed is removed
// again; the mark that keeps out what was being created meanwhile is not set again.
//
// A partition that is gone altogether stays gone: it was evicted, or somebody has
// emptied the store. But one that was created within the last two minutes is stored
// again when the watcher's connection was lost since.
//
// # Another store
//
// [Migrate] copies what one provider holds into another, as it is, without keys. The
// application may go on meanwhile, on either of them; see there for what that means.
//
// # Encryption
//
// A provider whose bytes leave the process needs [Keys], or [New] fails;
// [LoadKeys] reads them from a file, the environment or a secret manager. A
// [KeyRing] seals each record with AES-256-GCM, bound to its name, its version and
// the namespace. Whoever can write to the backend cannot read, alter, swap or
// forge tokens, but can delete a record, and can put back an earlier record of
// the same user as a whole.
package tokencache

// MaxTokensSize is the largest partition, in bytes of its decoded form.
const MaxTokensSize = 1 << 20
