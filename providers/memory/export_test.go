package memory

// Held returns how many entries otter has, and how many the index has.
func (p *Provider) Held() (stored, indexed int) {
	for i := range p.stripes.all {
		s := &p.stripes.all[i]
		s.index.Lock()
		for _, e := range s.living {
			for ; e != nil; e = e.next {
				indexed++
			}
		}
		s.index.Unlock()
	}
	return p.records.EstimatedSize(), indexed
}

// Weight returns the weight of all entries, once evictions have happened.
func (p *Provider) Weight() uint64 {
	p.records.CleanUp()
	return p.records.WeightedSize()
}

// Tombstones returns how many tombstones are counted.
func (p *Provider) Tombstones() int64 { return p.tombstones.Load() }

// Marks and Leases return how many are held, expired ones included.
func (p *Provider) Marks() (marks int) {
	for i := range p.stripes.all {
		marks += len(p.stripes.all[i].marks)
	}
	return marks
}

func (p *Provider) Leases() int { return len(p.leases.held) }
