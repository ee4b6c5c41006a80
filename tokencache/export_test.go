package tokencache

import "time"

// AwaitWatch returns when the cache listens for changes: beginning to listen
// drops what L1 holds, which a test would otherwise see at any moment. It does
// not wait for ever, as the provider may be down.
func AwaitWatch(c *Cache) {
	for range 1000 {
		if c.store.caps.Watcher == nil || c.l1.epoch(Name{}) > 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// Ahead is the removal v as a machine makes it whose clock is ahead by d.
func Ahead(v Version, d time.Duration) Version {
	return newRemoval(removalTime(v).Add(d))
}

// InL1 is a bare Get of the otter cache that L1 is.
func InL1(c *Cache, k Key) bool {
	_, ok := c.l1.cache.GetIfPresent(k.id)
	return ok
}

// LimitUnsaved sets how many partitions may wait to be stored.
func LimitUnsaved(c *Cache, most int) { c.unsaved.most = most }

// LimitJournal sets how many bytes of what was saved are remembered.
func LimitJournal(c *Cache, most int) {
	c.journal.mu.Lock()
	defer c.journal.mu.Unlock()
	c.journal.most = most
	c.journal.prune(time.Now())
}
