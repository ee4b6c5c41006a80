package providertest

import "github.com/coatcheck-go/coatcheck/tokencache"

func sweepTests() []testCase {
	return []testCase{{"Sweep", testSweep}, {"Race", testSweepRace}}
}

func pingTests() []testCase { return []testCase{{"Ping", testPing}} }

// testSweep cannot see whether the backend's space was freed, nor how much of
// it the backend had freed by itself. It sees that the living stay, and that
// the count counts nothing else.
func testSweep(e *env) {
	type stored struct {
		n tokencache.Name
		r tokencache.Record
	}
	var kept []stored
	for _, r := range []tokencache.Record{
		record("never"), expiring(record("later"), later()), tombstone(), expiring(tombstone(), later()),
	} {
		kept = append(kept, stored{e.create(r), r})
	}
	gone := []tokencache.Name{
		e.create(expiring(record("soon"), e.soon())), e.create(expiring(tombstone(), e.soon())),
	}
	expired := len(gone)
	var mark tokencache.Version
	if c := e.caps.Owners; c != nil {
		e.want(ruleMarkUntil, c.SetMark(e.ctx, newHash(), tokencache.NewVersion(), e.soon()), nil, "SetMark")
		mark = e.setMark(kept[0].n.Owner)
		expired++
	}
	e.outlast()
	swept := 0
	for range 2 {
		count, err := e.caps.Sweeper.Sweep(e.ctx)
		e.want(ruleSweep, err, nil, "Sweep")
		swept += count
	}
	if swept < 0 || swept > expired {
		e.broken(ruleSweep, "Sweep removed %d, but only %d had expired", swept, expired)
	}
	for _, k := range kept {
		e.wantStored(ruleSweep, e.peer, k.n, k.r)
	}
	for _, n := range gone {
		e.wantAbsent(ruleSweep, e.peer, n)
	}
	if e.caps.Owners != nil {
		e.wantMark(ruleSweep, e.p, kept[0].n, mark)
	}
}

// testSweepRace sweeps on every machine at once, beside writers.
func testSweepRace(e *env) {
	e.together(8, func(i int, p tokencache.Provider) {
		for range 5 {
			if i < 4 {
				if _, err := p.Capabilities().Sweeper.Sweep(e.ctx); err != nil {
					e.breach(ruleSweep, "Sweep beside others: error %v", err)
				}
				continue
			}
			n, r := newName(), expiring(record("there"), later())
			if err := p.Save(e.ctx, n, r, tokencache.Condition{}); err != nil {
				e.breach(ruleSave, "Save beside Sweep: error %v", err)
			}
			if got, err := p.Load(e.ctx, n); err != nil || got.Version != r.Version {
				e.breach(ruleSweep, "Load beside Sweep: version %v, error %v", got.Version, err)
			}
		}
	})
}

func testPing(e *env) {
	for _, p := range []tokencache.Provider{e.p, e.peer} {
		e.want(rulePing, p.Capabilities().Pinger.Ping(e.ctx), nil, "Ping")
	}
}
