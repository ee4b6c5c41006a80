package msal_test

import (
	"net/http"
	"strings"
	"sync"
)

// counting counts requests by the end of their path, and may answer one itself.
type counting struct {
	base    http.RoundTripper
	instead func(*http.Request) *http.Response // or nil

	mu    sync.Mutex
	paths map[string]int
}

func (c *counting) RoundTrip(req *http.Request) (*http.Response, error) {
	c.mu.Lock()
	if c.paths == nil {
		c.paths = map[string]int{}
	}
	c.paths[req.URL.Path[strings.LastIndexByte(req.URL.Path, '/')+1:]]++
	instead := c.instead
	c.mu.Unlock()
	if instead != nil {
		if resp := instead(req); resp != nil {
			return resp, nil
		}
	}
	return c.base.RoundTrip(req)
}

func (c *counting) count(path string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.paths[path]
}

func (c *counting) answer(instead func(*http.Request) *http.Response) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.instead = instead
}

func (c *counting) total() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, count := range c.paths {
		n += count
	}
	return n
}
