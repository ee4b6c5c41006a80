package fleet

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// A parent writes commands to its child's input, one a line, and the child
// answers each with a line of its output, in any order. Lines without a number
// are events. No token is in any of them.
type (
	command struct {
		ID   int
		Op   string
		Args json.RawMessage
	}
	message struct {
		ID     int             `json:",omitempty"`
		Event  string          `json:",omitempty"`
		Result json.RawMessage `json:",omitempty"`
		Error  string          `json:",omitempty"`
	}
)

// setup is what a process is made of, in its first command.
type setup struct {
	Name    string // of the process, for the tap
	Backend backend
	Keys    string // a key set
	Issuer  string // none: the namespace is made up, and there is no client
	Proxy   string // of all requests to the issuer

	// The rest is optional.
	ProviderTimeout time.Duration
	L1MaxAge        time.Duration
	NoRetries       bool // of the driver
	RetryPause      time.Duration
	Unconditional   bool // every save is sent without its condition
	LookAtWrites    bool // in a hook
	Gap             gap  // where to stop and wait for the end
}

// child is the process, seen from inside.
type child struct {
	setup    *setup
	provider tokencache.Provider
	release  closer
	cache    *tokencache.Cache
	client   *xoauth2.Client
	http     *http.Transport
	breaches breaches // of what the cache must never do

	mu  sync.Mutex // guards out
	out *json.Encoder
}

// childMain is the process's life: until the parent lets go of its input.
func childMain() int {
	logging.Disable() // go-redis's own, which tells everybody of every failed connection
	c := &child{out: json.NewEncoder(os.Stdout)}
	in := bufio.NewReader(os.Stdin)
	var work sync.WaitGroup
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return 0 // the parent is gone, and whatever goes on ends with this process
		}
		var cmd command
		if err := json.Unmarshal(line, &cmd); err != nil {
			fmt.Fprintln(os.Stderr, "a command is malformed")
			return 1
		}
		switch cmd.Op {
		case "open":
			c.answer(&cmd, c.open)
		case "close":
			work.Wait()
			c.answer(&cmd, c.close)
			return 0
		default:
			work.Go(func() { c.answer(&cmd, c.operations()[cmd.Op]) })
		}
	}
}

// operation does what a command says.
type operation func(ctx context.Context, args json.RawMessage) (any, error)

func (c *child) operations() map[string]operation {
	return map[string]operation{
		"ask":        c.ask,
		"peek":       c.peek,
		"sign out":   c.signOut,
		"until gone": c.untilGone,
		"history":    c.history,
		"interleave": c.interleave,
	}
}

func (c *child) answer(cmd *command, op operation) {
	m := message{ID: cmd.ID}
	result, err := any(nil), errors.New("there is no such operation")
	if op != nil {
		result, err = op(context.Background(), cmd.Args)
	}
	if err != nil {
		m.Error = err.Error()
	} else if result != nil {
		m.Result = mustJSON(result)
	}
	c.send(m)
}

func (c *child) send(m message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.out.Encode(m) // a parent that is gone closes the input too
}

// open builds what an application builds when it starts.
func (c *child) open(ctx context.Context, args json.RawMessage) (any, error) {
	c.setup = &setup{}
	if err := json.Unmarshal(args, c.setup); err != nil {
		return nil, errors.New("the setup is malformed")
	}
	var err error
	if c.provider, c.release, err = c.setup.open(); err != nil {
		return nil, err
	}
	c.provider = c.setup.wrap(c, c.provider)
	if c.setup.Keys == "" {
		return nil, nil // this process works with the provider alone
	}
	var hook tokencache.Hook
	if c.setup.LookAtWrites {
		hook = c.breaches.written
	}
	if c.cache, err = newCache(ctx, c.provider, c.setup, hook); err != nil {
		return nil, err
	}
	if c.setup.Issuer == "" {
		return nil, nil
	}
	c.client, c.http, err = newClient(ctx, c.cache, c.setup)
	return nil, err
}

// wrap puts the faults of the setup in front of the provider.
func (s *setup) wrap(c *child, p tokencache.Provider) tokencache.Provider {
	if s.Unconditional {
		p = &unconditional{p}
	}
	if s.Gap == "" {
		return p
	}
	faults := providertest.NewFaults(p)
	faults.Set((&stopper{child: c, gap: s.Gap}).fault)
	return faults
}

// close ends the process in good order, and tells what is left behind.
func (c *child) close(context.Context, json.RawMessage) (any, error) {
	ctx, cancel := background()
	defer cancel()
	var err error
	if c.cache != nil {
		err = c.cache.Close(ctx)
	}
	err = errors.Join(err, c.release(ctx))
	if c.http != nil {
		c.http.CloseIdleConnections()
	}
	return nil, errors.Join(err, goleak.Find(leftovers...))
}

// madeUp is the issuer of processes that talk to none.
const madeUp = "https://issuer.example"

func newCache(ctx context.Context, p tokencache.Provider, s *setup, beforeWrite tokencache.Hook) (*tokencache.Cache, error) {
	keys, err := tokencache.LoadKeys(ctx, func(context.Context) ([]byte, error) { return []byte(s.Keys), nil })
	if err != nil {
		return nil, err
	}
	ns := tokencache.Namespace{Issuer: s.Issuer, ClientID: idp.DefaultClientID}
	if ns.Issuer == "" {
		ns.Issuer = madeUp
	}
	return tokencache.New(p, ns, &tokencache.Options{
		Keys: keys, ProviderTimeout: s.ProviderTimeout, L1MaxAge: s.L1MaxAge, BeforeWrite: beforeWrite,
	})
}

// processHeader tells the tap which process is asking.
const processHeader = "X-Fleet-Process"

// callbackURL is one that the authorization server knows; nobody listens there.
const callbackURL = "http://127.0.0.1:45678/callback"

// usualScope is what everybody has a token for.
const usualScope = "api://coatcheck-example/Data.Read"

func newClient(ctx context.Context, cache *tokencache.Cache, s *setup) (*xoauth2.Client, *http.Transport, error) {
	proxy, err := url.Parse(s.Proxy)
	if err != nil {
		return nil, nil, errors.New("the proxy's URL is malformed")
	}
	transport := &http.Transport{Proxy: http.ProxyURL(proxy), MaxIdleConnsPerHost: 32}
	client, err := xoauth2.New(ctx, cache, &xoauth2.Options{
		ClientSecret: idp.DefaultClientSecret,
		RedirectURL:  callbackURL,
		Scopes:       []string{usualScope},
		HTTPClient:   &http.Client{Transport: named{s.Name, transport}, Timeout: patience},
	})
	return client, transport, err
}

// named adds the process's name to its requests.
type named struct {
	name string
	next http.RoundTripper
}

func (n named) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(processHeader, n.name)
	return n.next.RoundTrip(r)
}

// unconditional is a provider that does not look at conditions: what the tests
// must find out.
type unconditional struct{ tokencache.Provider }

func (u *unconditional) Save(ctx context.Context, n tokencache.Name, r tokencache.Record, _ tokencache.Condition) error {
	return u.Provider.Save(ctx, n, r, tokencache.Always())
}
