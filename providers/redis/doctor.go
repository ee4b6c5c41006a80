package redis

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Finding is something about the server or the client that will cost users their
// tokens, or operators their sleep.
type Finding struct {
	// Check names what was looked at: "client", "clock", "eviction", "latency",
	// "memory", "persistence", "replica", "tls" or "version".
	Check string
	// Problem is what was found, and Advice what to do about it: a sentence each,
	// without addresses or secrets.
	Problem, Advice string
}

// String returns the finding in a line.
func (f Finding) String() string { return f.Check + ": " + f.Problem + " " + f.Advice }

// Bounds of what the doctor finds healthy.
const (
	slowPing   = 10 * time.Millisecond
	wrongClock = 2 * time.Second
	fullMemory = 0.9
	pings      = 5
)

// Doctor looks at the server and the client, and returns what should be changed,
// nothing if all is well. Of a Cluster it looks at every primary. It asks for
// little (INFO, TIME, CLIENT INFO and some PINGs), and may run at the start of an
// application or behind an operator's command; it is not a health check, for which
// there is [Provider.Ping]. The error means that a server did not answer.
func (p *Provider) Doctor(ctx context.Context) ([]Finding, error) {
	d := &doctor{}
	if punctual, known, _ := check(p.client); known && !punctual {
		d.find("client", "ContextTimeoutEnabled is off, so that calls go on after their deadline.",
			"Build the client with RecommendedOptions.")
	}
	var err error
	switch c := p.client.(type) {
	case *redis.ClusterClient:
		err = c.ForEachMaster(ctx, d.examine)
	case *redis.Client:
		err = d.examine(ctx, c)
	default:
		d.find("client", fmt.Sprintf("A %T cannot be examined.", c), "Pass the client of go-redis to look at the server.")
	}
	if err != nil {
		return nil, mapped(err)
	}
	return d.sorted(), nil
}

// doctor collects findings; the nodes of a Cluster are examined at once.
type doctor struct {
	mu       sync.Mutex
	findings []Finding
}

func (d *doctor) find(check, problem, advice string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.findings = append(d.findings, Finding{check, problem, advice})
}

// sorted returns what was found, once if several nodes have it.
func (d *doctor) sorted() []Finding {
	slices.SortFunc(d.findings, func(a, b Finding) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(d.findings)
}

// examine looks at one server.
func (d *doctor) examine(ctx context.Context, c *redis.Client) error {
	text, err := c.Info(ctx).Result()
	if err != nil {
		return err
	}
	info := parseInfo(text)
	d.version(info)
	d.memory(info)
	d.durability(info)
	if err := d.transport(ctx, c); err != nil {
		return err
	}
	return d.timing(ctx, c)
}

// parseInfo reads the lines of INFO, name:value.
func parseInfo(text string) map[string]string {
	info := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

func (d *doctor) version(info map[string]string) {
	var major, minor int
	// Valkey tells the version of Redis that it is compatible with.
	_, err := fmt.Sscanf(info["redis_version"], "%d.%d", &major, &minor)
	if err != nil || major < 6 || major == 6 && minor < 2 {
		d.find("version", fmt.Sprintf("The server is of version %.20q.", info["redis_version"]), "Use 6.2 or newer.")
	}
}

func (d *doctor) memory(info map[string]string) {
	limit, err := strconv.ParseFloat(info["maxmemory"], 64)
	used, _ := strconv.ParseFloat(info["used_memory"], 64)
	switch {
	case err != nil: // a service that does not tell
	case limit == 0:
		d.find("memory", "maxmemory is not set, so that the system kills a server that grows too large.",
			"Set it to three quarters of the machine's memory, or less where snapshots are written.")
	case used > fullMemory*limit:
		d.find("memory", "More than nine tenths of maxmemory are used; when it is full, nobody can sign in or get new tokens.",
			"Raise maxmemory, or shorten the IdleTimeout of the Cache.")
	}
	if policy, ok := info["maxmemory_policy"]; ok && policy != "noeviction" {
		d.find("eviction", fmt.Sprintf("maxmemory-policy is %.20s: users lose their tokens without a word when the memory is full, "+
			"and what was removed may come back.", policy), "Set maxmemory-policy noeviction; if others need eviction, use a server of its own.")
	}
}

func (d *doctor) durability(info map[string]string) {
	if role := info["role"]; role != "" && role != "master" {
		d.find("replica", "The server is a replica, which takes no writes and answers with what is a moment old.",
			"Connect to the primary, through Sentinel if it moves.")
	}
	if info["aof_enabled"] == "0" {
		d.find("persistence", "appendonly is off: after a crash users have no tokens, or refresh tokens that were used already.",
			"Set appendonly yes.")
	}
}

// transport looks whether others on the way can read along. Keys protect tokens,
// but not who comes when, nor the server's password.
func (d *doctor) transport(ctx context.Context, c *redis.Client) error {
	o := c.Options()
	if o.TLSConfig != nil || o.Network == "unix" {
		return nil
	}
	host, _, err := net.SplitHostPort(o.Addr)
	if err != nil { // behind Sentinel, whose client finds the address by itself
		text, err := c.ClientInfo(ctx).Result()
		if err != nil {
			return err
		}
		host, _, _ = net.SplitHostPort(text.LAddr)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		d.find("tls", "The connection leaves this machine without TLS.", "Set TLSConfig, and tls-port at the server.")
	}
	return nil
}

// timing measures round trips, and compares clocks in the fastest of them.
func (d *doctor) timing(ctx context.Context, c *redis.Client) error {
	var trips [pings]time.Duration
	var ahead time.Duration
	for i := range trips {
		began := time.Now()
		there, err := c.Time(ctx).Result()
		if err != nil {
			return err
		}
		trips[i] = time.Since(began)
		if i == 0 || trips[i] <= slices.Min(trips[:i]) {
			ahead = there.Sub(began.Add(trips[i] / 2))
		}
	}
	slices.Sort(trips[:])
	if trips[pings/2] > slowPing {
		d.find("latency", fmt.Sprintf("A round trip takes more than %v, and every request that is not served from memory waits for one.", slowPing),
			"Put the server nearer to the application.")
	}
	if ahead.Abs() > wrongClock {
		d.find("clock", fmt.Sprintf("The server's clock and this machine's are more than %v apart.", wrongClock),
			"Synchronize them: machines' clocks decide which of a sign-in and a sign-out came last.")
	}
	return nil
}
