package providertest_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// plaintext is a Cache that does not seal, which no provider can do.
const plaintext fault = "does not seal"

// cacheFaults has the tests of RunCache that must fail, which are about the fault.
func cacheFaults() map[fault][]string {
	return map[fault][]string{
		plaintext:           {"Sealing/Opaque", "Sealing/Copied", "Sealing/Older", "Sealing/OtherKeys"},
		peerNothing:         {"Tokens/SignIn", "Tokens/TwoSignIns", "Tokens/WithoutLeases", "Owners/OneSession"},
		peerRecords:         {"Tokens/PeerSees", "SignOut/Copies"},
		localCopies:         {"Local/AtOnce"},
		watchBabbles:        {"Tokens/FromL1"},
		conditionsIgnored:   {"Tokens/Scopes", "Tokens/TwoSignIns"},
		largeTruncated:      {"Tokens/Large"},
		saveForgets:         {"Tokens/Close", "Leaser/Users"},
		tombstoneIgnored:    {"SignOut/Copies", "SignOut/Ticket", "SignOut/InFlight"},
		tombstoneDeletes:    {"SignOut/InFlight"},
		tombstoneNotLoaded:  {"SignOut/Copies"},
		touchNothing:        {"Upkeep/Idle"},
		touchNewVersion:     {"Upkeep/Idle"},
		expiryIgnored:       {"Upkeep/Idle"},
		expiryInSeconds:     {"Upkeep/Idle"},
		leaseShared:         {"Leaser/RefreshOnce", "Leaser/Refused", "Leaser/Scopes"},
		leaseOfContext:      {"Leaser/RefreshOnce"},
		peerLeases:          {"Leaser/RefreshOnce", "Leaser/Users"},
		listNothing:         {"Owners/Everywhere"},
		ownerNamed:          {"Owners/Everywhere"},
		markIgnored:         {"Owners/InFlight"},
		peerMarks:           {"Owners/InFlight"},
		markNotWithNotFound: {"Owners/SignInAgain"},
		peerChanges:         {"Watcher/SignOut", "Watcher/Refresh"},
	}
}

// TestCacheFaults is TestFaults for RunCache.
func TestCacheFaults(t *testing.T) {
	t.Parallel()
	if os.Getenv(faultVariable) != "" {
		t.Skip("this is such a process")
	}
	for f, tests := range cacheFaults() {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			wantFound(t, "TestCacheReference", f, tests)
		})
	}
}

// TestCacheFaultsInOutages: outages hide nothing.
func TestCacheFaultsInOutages(t *testing.T) {
	t.Parallel()
	if os.Getenv(faultVariable) != "" {
		t.Skip("this is such a process")
	}
	for f, tests := range map[fault][]string{
		peerNothing:      {"Tokens/SignIn"},
		saveForgetsHalf:  {"Leaser/Users"}, // of fewer, a Cache at times puts back all
		leaseShared:      {"Leaser/RefreshOnce"},
		tombstoneIgnored: {"SignOut/Copies", "SignOut/InFlight"},
		markIgnored:      {"Owners/InFlight"},
		touchNothing:     {"Upkeep/Idle"},
	} {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			wantFound(t, "TestCacheOutages", f, tests)
		})
	}
}

// TestCacheOutages: a provider that is right, on a backend that is down now and
// then, breaks no promise.
func TestCacheOutages(t *testing.T) {
	t.Parallel()
	h := harness(fault(os.Getenv(faultVariable)))
	first, second := h.New, h.Peer
	inner := func(p tokencache.Provider) tokencache.Provider { return p.(*outages).inner }
	h.New = func(t *testing.T) tokencache.Provider { return newOutages(t, first(t)) }
	h.Peer = func(t *testing.T, p tokencache.Provider) tokencache.Provider {
		return newOutages(t, second(t, inner(p)))
	}
	h.Outages = true
	providertest.RunCache(t, h)
}

type outages struct {
	*providertest.Faults
	inner tokencache.Provider
}

// newOutages has the provider lose its connection over and over: some calls get no
// answer although they are made, and then none are made.
func newOutages(t *testing.T, p tokencache.Provider) *outages {
	o := &outages{Faults: providertest.NewFaults(p), inner: p}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	t.Cleanup(func() {
		stop()
		<-ended
	})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			pause(ctx, 300*time.Millisecond)
			// A lease that nobody knows of is the provider's own affair: it gives it back.
			o.Set(providertest.LoseReplies(), providertest.OpSave, providertest.OpTouch, providertest.OpSetMark,
				providertest.OpRenew, providertest.OpRelease)
			pause(ctx, 50*time.Millisecond)
			o.Set(providertest.Down())
			pause(ctx, 100*time.Millisecond)
			o.Clear()
		}
	}()
	return o
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
