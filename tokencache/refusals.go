package tokencache

import (
	"crypto/sha256"

	"github.com/maypok86/otter/v2"
)

// refusals remembers for a short while what the authorization server refused,
// so that callers do not hammer it. They are keyed by the refresh token, so
// that a new sign-in is not refused for the old one's sake.
type refusals struct {
	cache *otter.Cache[[sha256.Size]byte, error]
}

func newRefusals() *refusals {
	return &refusals{cache: otter.Must(&otter.Options[[sha256.Size]byte, error]{
		MaximumSize:      10_000,
		ExpiryCalculator: otter.ExpiryWriting[[sha256.Size]byte, error](refusalLife),
	})}
}

func (r *refusals) close() { r.cache.StopAllGoroutines() }

// get returns why the refresh token was refused, for any request or for this
// one; nil if it was not.
func (r *refusals) get(token Secret, request string) error {
	if err, ok := r.cache.GetIfPresent(refusalKey(token, "")); ok {
		return err
	}
	err, _ := r.cache.GetIfPresent(refusalKey(token, request))
	return err
}

// put remembers a refusal; an empty request stands for all.
func (r *refusals) put(token Secret, request string, err error) {
	if token != "" {
		_, _ = r.cache.Set(refusalKey(token, request), err)
	}
}

func refusalKey(token Secret, request string) [sha256.Size]byte {
	return sha256.Sum256(appendPart(appendPart(nil, string(token)), request))
}
