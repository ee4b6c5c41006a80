package file

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// roomForSave is what a refresh may add to the file, and more.
const roomForSave = 128 << 10

// maxLeases bounds the file of leases, in bytes.
const maxLeases = 1 << 20

// leaseJSON is a lease in the file of leases, which is not encrypted. Its names are MACs:
// who guesses an account can see by them that it is there, where the Cache has no Keys,
// and nobody sees which it is. Times are in nanoseconds since 1970.
type leaseJSON struct {
	Owner     []byte             `json:"owner"`
	Partition []byte             `json:"partition"`
	Holder    tokencache.Version `json:"holder"`
	Since     int64              `json:"since"`
	Until     int64              `json:"until"`
}

// lease is a lease that was acquired.
type lease struct {
	v      *vault
	name   tokencache.Name
	holder tokencache.Version
}

var _ tokencache.Lease = (*lease)(nil)

// Acquire takes the lease on name for ttl. See [tokencache.Leaser]. It fails where there
// is no room on the disk for what the lease is for.
func (p *Provider) Acquire(ctx context.Context, name tokencache.Name, ttl time.Duration) (tokencache.Lease, error) {
	l := &lease{v: p.vault, name: name, holder: tokencache.NewVersion()}
	err := p.vault.leases(ctx, func(held map[tokencache.Name]leaseJSON, now time.Time) error {
		if _, busy := held[name]; busy {
			return tokencache.ErrBusy
		}
		w, err := p.vault.lookLocked(ctx)
		if err != nil {
			return err
		}
		if w.doc.size() > maxContent-roomForSave {
			return errFull
		}
		held[name] = l.until(now, ttl)
		return explain(p.vault.disk.rehearse(w.doc.size() + roomForSave))
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

// Renew extends the lease to ttl from now.
func (l *lease) Renew(ctx context.Context, ttl time.Duration) error {
	return l.v.leases(ctx, func(held map[tokencache.Name]leaseJSON, now time.Time) error {
		if held[l.name].Holder != l.holder {
			return tokencache.ErrConflict
		}
		held[l.name] = l.until(now, ttl)
		return nil
	})
}

// Release gives the lease back.
func (l *lease) Release(ctx context.Context) error {
	return l.v.leases(ctx, func(held map[tokencache.Name]leaseJSON, _ time.Time) error {
		if held[l.name].Holder != l.holder {
			return errSame
		}
		delete(held, l.name)
		return nil
	})
}

func (l *lease) until(now time.Time, ttl time.Duration) leaseJSON {
	return leaseJSON{
		Owner: []byte(l.name.Owner), Partition: []byte(l.name.Partition), Holder: l.holder,
		Since: now.UnixNano(), Until: now.Add(ttl).UnixNano(),
	}
}

// leases changes the leases that are held. They need not outlast a crash, and a file of
// them that does not decode has none.
func (v *vault) leases(ctx context.Context, edit func(held map[tokencache.Name]leaseJSON, now time.Time) error) error {
	unlock, err := v.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	b, err := v.disk.read(leaseFile, maxLeases)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return explain(err)
	}
	now := time.Now()
	held := decodeLeases(b, now)
	if err := edit(held, now); err != nil {
		if errors.Is(err, errSame) {
			return nil
		}
		return err
	}
	list := make([]leaseJSON, 0, len(held))
	for _, l := range held {
		list = append(list, l)
	}
	if b, err = json.Marshal(list); err != nil {
		return err
	}
	return explain(v.disk.replace(leaseFile, b, false))
}

// decodeLeases returns those that have not run out. One that was taken long after now is
// from before the clock was set back, and might hold for long; of a clock that was set
// right by a moment, the holder loses nothing.
func decodeLeases(b []byte, now time.Time) map[tokencache.Name]leaseJSON {
	held := map[tokencache.Name]leaseJSON{}
	var list []leaseJSON
	if json.Unmarshal(b, &list) != nil {
		return held
	}
	for _, l := range list {
		if at := now.UnixNano(); l.Since-at <= l.Until-l.Since && at < l.Until {
			held[tokencache.Name{Owner: string(l.Owner), Partition: string(l.Partition)}] = l
		}
	}
	return held
}
