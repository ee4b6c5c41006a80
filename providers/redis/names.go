package redis

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// A cursor of SCAN means something only to the server that gave it, until that is
// started anew: its place in a table of which the server draws the order when it
// starts. So ours has the identity of the servers, and what is no longer true of them
// has the listing begin anew, rather than leave something out.
type cursor struct {
	servers string // see identity
	node    int    // which of them
	at      uint64 // its own cursor; 0 begins
}

const (
	// scanCount is how many keys of any kind the server looks at for a page, so that
	// it is held up for less than a millisecond.
	scanCount  = 256
	cursorKind = "redis1"
)

// Names returns a page of the names: what one SCAN finds, of one primary of a Cluster
// after the other. See [tokencache.Lister]. It looks at all keys of the database. When
// a server was started anew, another one has become the primary, or slots of a Cluster
// have another home, the listing begins anew; do not use it while slots are on their
// way. The user needs the commands SCAN and INFO.
func (p *Provider) Names(ctx context.Context, text string) (names []tokencache.Name, next string, err error) {
	stop := p.overdue(ctx)
	defer stop()
	c, err := p.parseCursor(text)
	if err != nil {
		return nil, "", err
	}
	nodes, servers, err := p.servers(ctx)
	if err != nil {
		return nil, "", err
	}
	if c.servers != servers || c.node >= len(nodes) {
		c = cursor{servers: servers}
	}
	pattern := escape(p.prefix) + "{*}:r:*"
	found, at, err := nodes[c.node].client.Scan(ctx, c.at, pattern, scanCount).Result()
	if err != nil {
		return nil, "", p.answered(err)
	}
	for _, key := range found {
		if n, ok := p.nameOf(key); ok {
			names = append(names, n)
		}
	}
	if c.at = at; at == 0 {
		c.node++
	}
	if c.node == len(nodes) {
		// What has moved meanwhile, to a primary that was through, may be missing.
		_, now, err := p.servers(ctx)
		if err == nil && now != servers {
			err = errMoved
		}
		if err != nil {
			return nil, "", err
		}
		return names, "", nil
	}
	return names, p.formatCursor(c), nil
}

var errMoved = errors.New("redis: the servers, or who of them has which slots, are changing")

// servers returns the primaries, and their identity.
func (p *Provider) servers(ctx context.Context) (nodes []primary, identity string, err error) {
	if nodes, err = p.primaries(ctx); err == nil {
		identity, err = p.identity(ctx, nodes)
	}
	switch {
	case errors.Is(err, errMoved):
		return nil, "", errMoved
	case err != nil:
		return nil, "", p.answered(err)
	}
	return nodes, identity, nil
}

// primary is a server that has keys.
type primary struct {
	id     string // drawn anew at each start
	client redis.Cmdable
}

// primaries returns the servers that have keys, in the order of their identities.
func (p *Provider) primaries(ctx context.Context) ([]primary, error) {
	cluster, ok := p.client.(*redis.ClusterClient)
	if !ok {
		id, err := runID(ctx, p.client)
		return []primary{{id, p.client}}, err
	}
	var mu sync.Mutex
	var all []primary
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		id, err := runID(ctx, node)
		mu.Lock()
		defer mu.Unlock()
		all = append(all, primary{id, node})
		return err
	})
	slices.SortFunc(all, func(a, b primary) int { return cmp.Compare(a.id, b.id) })
	return all, err
}

// runID is the identity of a server that is a primary.
func runID(ctx context.Context, c redis.Cmdable) (string, error) {
	text, err := c.Info(ctx).Result()
	if err != nil {
		return "", err
	}
	info := parseInfo(text)
	if info["role"] != "master" || info["run_id"] == "" {
		return "", errMoved
	}
	return info["run_id"], nil
}

// identity is that of the servers, and of which slots they have. It is an error if the
// client of a Cluster does not know yet who has which.
func (p *Provider) identity(ctx context.Context, nodes []primary) (string, error) {
	h := sha256.New()
	for _, n := range nodes {
		_, _ = fmt.Fprintln(h, n.id)
	}
	if cluster, ok := p.client.(*redis.ClusterClient); ok {
		slots, err := cluster.ClusterSlots(ctx).Result() //nolint:staticcheck // CLUSTER SHARDS needs 7.0, and the client asks for slots too
		if err != nil {
			return "", err
		}
		slices.SortFunc(slots, func(a, b redis.ClusterSlot) int { return cmp.Compare(a.Start, b.Start) })
		holders, next := make(map[string]bool), 0
		for _, s := range slots {
			if s.Start != next || len(s.Nodes) == 0 {
				break
			}
			next = s.End + 1
			holders[s.Nodes[0].ID] = true
			_, _ = fmt.Fprintln(h, s.Start, s.End, s.Nodes[0].ID)
		}
		// Nodes without slots are primaries too.
		if next != allSlots || len(nodes) < len(holders) {
			cluster.ReloadState(ctx)
			return "", errMoved
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}

// allSlots is how many a Cluster has.
const allSlots = 16384

// nameOf is the reverse of keysOf.
func (p *Provider) nameOf(key string) (n tokencache.Name, ok bool) {
	rest, ok := strings.CutPrefix(key, p.prefix+"{")
	if !ok {
		return n, false
	}
	n.Owner, n.Partition, ok = strings.Cut(rest, "}:r:")
	return n, ok
}

// escape takes the meaning that they have in patterns from characters of the prefix.
func escape(prefix string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `^`, `\^`).Replace(prefix)
}

// A cursor of ours ends with the prefix, so that another one's is refused.
func (p *Provider) formatCursor(c cursor) string {
	return strings.Join([]string{cursorKind, c.servers, strconv.Itoa(c.node), strconv.FormatUint(c.at, 10), p.prefix}, " ")
}

func (p *Provider) parseCursor(text string) (c cursor, err error) {
	if text == "" {
		return c, nil
	}
	parts := strings.SplitN(text, " ", 5) // there is none in a prefix
	if len(parts) != 5 || parts[0] != cursorKind || parts[4] != p.prefix {
		return c, tokencache.ErrCursor
	}
	node, err1 := strconv.ParseUint(parts[2], 10, 16)
	at, err2 := strconv.ParseUint(parts[3], 10, 64)
	if cmp.Or(err1, err2) != nil {
		return c, tokencache.ErrCursor
	}
	return cursor{servers: parts[1], node: int(node), at: at}, nil
}
