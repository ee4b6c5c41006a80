package tokencache

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"
)

// Cache keeps the tokens of one client at one authorization server: every
// user's, in a [Provider], with copies in this process. An application builds
// one for its lifetime, or one for each authorization server. It is safe for
// concurrent use.
type Cache struct {
	ns    Namespace
	opts  Options
	hooks hooks
	names namer
	store store
	l1    *l1

	loads    loads
	flights  singleflight.Group // one refresh for the same request at a time
	locks    keyedLocks         // one spender of a partition's refresh token
	refusals *refusals
	down     downtime
	unsaved  unsaved
	journal  journal
	hearsay  hearsay
	released released
	settling settling
	ahead    ahead

	upkeeping *semaphore.Weighted
	releasing *semaphore.Weighted
	byHooks   *hookStore // nil if there is a provider

	watching sync.WaitGroup
	work     sync.WaitGroup // flights, which outlive their requests
	stop     context.CancelFunc
	mu       sync.Mutex // guards closed against work.Add
	closed   bool
}

// New returns a cache over the provider, for the client that the namespace
// names. A nil *Options means the defaults. If the provider tells of changes
// ([Capabilities].Watcher), New starts a goroutine that listens; Close ends it.
//
// With a nil provider the hooks BeforeAccess and AfterAccess are the
// persistence; see [Hook].
//
// It fails if the namespace is incomplete, an option is out of range, the
// provider neither is in-process nor encrypts and there are no keys to encrypt with,
// or there is neither a provider nor hooks.
func New(provider Provider, ns Namespace, options *Options) (*Cache, error) {
	opts, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := ns.check(); err != nil {
		return nil, err
	}
	c := &Cache{ns: ns, opts: opts, hooks: opts.hooks()}
	if provider == nil {
		if provider, err = c.persistByHooks(); err != nil {
			return nil, err
		}
	}
	caps := provider.Capabilities()
	keys, err := opts.keys(caps.InProcess || caps.Encrypts)
	if err != nil {
		return nil, err
	}
	c.names = newNamer(keys.Names, ns)
	c.store = store{provider: provider, caps: caps, sealer: sealer{aead: keys.Seal, ns: ns}}
	c.store.calls = &caller{timeout: opts.providerTimeout(caps.InProcess || caps.Local), punctual: caps.InProcess || caps.Punctual}
	// Another AEAD may ask a server of its own, for as long as it likes.
	_, local := keys.Seal.(*KeyRing)
	c.loads.here = caps.Punctual && (local || keys.Seal == nil)
	if !c.hooks.persist { // what one user's hook fails with must not refuse the others
		c.store.calls.breakers = newBreakers(c.tellOutage)
	}
	c.refusals = newRefusals()
	c.unsaved.most = unsavedEntries
	c.journal.most = journalBytes
	c.upkeeping = semaphore.NewWeighted(upkeepAtOnce)
	c.releasing = semaphore.NewWeighted(releaseMost)
	if caps.Local {
		opts.L1MaxAge, c.opts.L1MaxAge = 0, 0
	}
	if c.l1, err = newL1(opts.L1MaxBytes, opts.L1MaxAge); err != nil {
		return nil, err
	}
	c.l1.off = c.hooks.persist
	c.watch()
	return c, nil
}

// persistByHooks makes the hooks the persistence.
func (c *Cache) persistByHooks() (Provider, error) {
	switch {
	case c.hooks.before == nil || c.hooks.after == nil:
		return nil, errHooksPersist
	case c.opts.Keys != nil:
		return nil, errKeysWithHooks
	}
	c.hooks.persist = true
	c.byHooks = newHookStore(&c.hooks, c.opts.ProviderTimeout)
	return c.byHooks, nil
}

// keys returns the keys to use: the given ones, or the fixed name key and no
// encryption where that is allowed. Partitions that never leave the process, or only
// behind the provider's own encryption, need no secret names, and two caches over one
// provider need the same.
func (o *Options) keys(protected bool) (Keys, error) {
	switch {
	case o.Keys != nil:
		return *o.Keys, o.Keys.check()
	case protected || o.AllowUnencryptedStorage:
		fixed := sha256.Sum256([]byte("coatcheck without keys"))
		return Keys{Names: fixed[:]}, nil
	}
	return Keys{}, errors.New("tokencache: this provider stores tokens outside the process: " +
		"set Options.Keys to encrypt them, or AllowUnencryptedStorage to store them as plaintext")
}

// providerTimeout is longer where calls do not leave the machine: all that takes
// time there is a busy processor or disk, which is no outage.
func (o *Options) providerTimeout(here bool) time.Duration {
	if here {
		return 20 * o.ProviderTimeout
	}
	return o.ProviderTimeout
}

// Namespace returns the namespace that the cache was made with.
func (c *Cache) Namespace() Namespace { return c.ns }

// Partition returns the partition that the key names. It costs nothing: no
// backend is asked until the partition is used. A partition remembers what it
// has loaded for at most [Options.L1MaxAge], so make one for each request or
// job. A bad key is an error of the partition's methods.
func (c *Cache) Partition(key Key) *Partition {
	return &Partition{cache: c, key: key}
}

// Close stops listening for changes and waits for the refreshes that are
// still running, and for what could not be stored yet, until ctx ends; it then
// returns ctx.Err() and can be called again. Uses of the cache after Close still
// read, but do not refresh. It waits for no sign-in or sign-out: stop the HTTP
// server first, and close the provider last.
func (c *Cache) Close(ctx context.Context) error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop()
	done := make(chan struct{})
	go func() {
		c.work.Wait()
		c.watching.Wait()
		c.store.calls.drained(ctx)
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		return ctx.Err()
	}
	c.l1.close()
	c.refusals.close()
	if c.byHooks != nil {
		c.byHooks.close()
	}
	return nil
}

// begin registers work that Close waits for; the caller ends it with
// c.work.Done.
func (c *Cache) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	c.work.Add(1)
	return nil
}

// open tells whether the cache has not been closed.
func (c *Cache) open() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.closed
}

var errClosed = errors.New("tokencache: the cache is closed")

// watch keeps L1 from serving what other machines have changed. A connection that
// was lost may have been to a store that has failed over since.
func (c *Cache) watch() {
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	w := c.store.caps.Watcher
	if w == nil {
		return
	}
	notify := func(change Change) {
		c.changed(change) //nolint:contextcheck // no request asked for it
		if change.Missed {
			c.restoreLater(ctx)
			c.releaseAgain(ctx)
		}
	}
	c.watching.Go(func() {
		for ctx.Err() == nil {
			_ = guarded(func() error { return w.Watch(ctx, notify) })
			sleep(ctx, time.Second) // a watcher that gives up is asked again
		}
	})
}

// writer describes this client to the document.
func (c *Cache) writer(k Key) *writer {
	w := &writer{clientID: c.ns.ClientID, environment: c.ns.Issuer, account: k.id.account}
	if u, err := url.Parse(c.ns.Issuer); err == nil && u.Host != "" {
		w.environment = u.Host
	}
	if k.id.kind == kindAssertion {
		w.assertion = k.id.part
	}
	return w
}
