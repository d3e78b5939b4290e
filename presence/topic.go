package presence

import (
	"errors"
	"fmt"
	"strings"
)

// Topics keeps to which topics of which apps devices have subscribed. A subscription belongs to the grant under which
// it was made: it ends with it, or when the grant gets another PUID.
type Topics interface {
	// Subscribe keeps one; again is as good as once. ErrFull: the user has max with this app already.
	Subscribe(app, topic string, s Subscriber, max int) error
	// Unsubscribe forgets one, if it is there.
	Unsubscribe(app, topic string, s Subscriber) error
	// SubscribersOf returns those behind after, in order, at most max. The zero Subscriber is before all.
	SubscribersOf(app, topic string, after Subscriber, max int) ([]Subscriber, error)
	// TopicsOf returns the user's with the app.
	TopicsOf(email, app string) ([]Subscription, error)
}

// Subscriber is a device that has subscribed, under a grant.
type Subscriber struct{ Email, Device, PUID string }

// Subscription is a topic and the device that subscribed to it.
type Subscription struct {
	Device string `json:"device"`
	Topic  string `json:"topic"`
}

// TopicQuery says who is meant by subscriptions: who has one of Names, and for whom Match is true.
type TopicQuery interface {
	Topics() []string // each once
	Match(subscribed func(topic string) bool) bool
}

const (
	maxTopicName  = 128 // bytes
	maxTopics     = 100 // subscriptions of a user with an app
	topicSlice    = 256 // subscribers that are notified at once
	topicAlphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~%"
)

// CheckTopic tells why name is not a topic: 1-128 characters of a-z A-Z 0-9 - _ . ~ %
func CheckTopic(name string) error {
	if name == "" || len(name) > maxTopicName || strings.Trim(name, topicAlphabet) != "" || strings.ContainsFunc(name, notInTopic) {
		return fmt.Errorf("topic must be 1 to %d characters of a-z A-Z 0-9 - _ . ~ %%", maxTopicName)
	}
	return nil
}

func notInTopic(r rune) bool { return !strings.ContainsRune(topicAlphabet, r) }

// Subscribe subscribes the device to a topic of an app that the user allows. It returns when that is on disk.
// ErrStranger: there is no such app for this user; ErrBadValue, ErrFull, ErrStorage.
func (s *Session) Subscribe(app, topic string) error {
	return s.topic(app, topic, func(who Subscriber) error {
		return s.hub.cfg.Store.Subscribe(app, topic, who, maxTopics)
	})
}

// Unsubscribe ends a subscription, if there is one. Errors as Subscribe.
func (s *Session) Unsubscribe(app, topic string) error {
	return s.topic(app, topic, func(who Subscriber) error { return s.hub.cfg.Store.Unsubscribe(app, topic, who) })
}

func (s *Session) topic(app, topic string, change func(Subscriber) error) error {
	if err := CheckTopic(topic); err != nil {
		return fmt.Errorf("%w: %w", ErrBadValue, err)
	}
	h, email := s.hub, s.dev.user.email
	st := h.stripe(email)
	st.RLock() // no revoke comes between the grant and the subscription
	defer st.RUnlock()
	g, ok, err := h.cfg.Store.Grant(email, app)
	if err != nil {
		return storage(err)
	}
	if !ok || h.apps.get(app) == nil || g.Ended(h.cfg.Now()) {
		return ErrStranger
	}
	return upstreamError(change(Subscriber{email, s.dev.id, g.PUID}))
}

// NotifyTopic notifies every device that is meant and whose user still allows it, and returns when all of that is
// accepted, and how many they were. It looks at slices of them, so who subscribes meanwhile may be among them. After an
// error some may have been notified. ErrTTL, ErrTooLarge, ErrBadValue, ErrEnded, ErrStorage.
func (l *Link) NotifyTopic(q TopicQuery, m Message) (n int, err error) {
	probe := Grant{Notify: true}
	if err := l.hub.checkMessage(&probe, &m); err != nil {
		return 0, l.hub.refuse(err, l.app.id, "")
	}
	topics := q.Topics()
	if m.Dry {
		_, err := l.hub.cfg.Store.SubscribersOf(l.app.id, topics[0], Subscriber{}, 1)
		return 0, storage(err)
	}
	m.Receipt = false // a receipt is about one device
	once := m.Once    // for all of it: what a crash interrupts is sent again from the beginning
	m.Once = nil
	if once != nil && l.hub.cfg.Store.Sent(once) {
		once.Again = true
		return 0, l.hub.remember(once, m.TTL > 0)
	}
	for i, topic := range topics {
		for after := (Subscriber{}); ; {
			if l.Ended() != Alive {
				return n, ErrEnded
			}
			list, err := l.hub.cfg.Store.SubscribersOf(l.app.id, topic, after, topicSlice)
			if err != nil {
				return n, storage(err)
			}
			if len(list) == 0 {
				break
			}
			after = list[len(list)-1]
			told, err := l.notifySubscribers(q, topics[:i], list, m)
			if n += told; err != nil {
				return n, err
			}
		}
	}
	return n, l.hub.remember(once, m.TTL > 0)
}

// notifySubscribers notifies those of the list that are meant, but for those with one of the topics before: they were
// told already.
func (l *Link) notifySubscribers(q TopicQuery, before []string, list []Subscriber, m Message) (n int, err error) {
	var ds []*Delivery
	for _, who := range list {
		meant := true
		if len(q.Topics()) > 1 {
			if meant, err = l.meant(q, before, who); err != nil {
				break
			}
		}
		if !meant {
			continue
		}
		d, refused := l.notifySubscriber(who, m)
		if refused == nil {
			ds = append(ds, d)
		} else if errors.Is(refused, ErrStorage) {
			err = refused
			break
		}
	}
	for _, d := range ds {
		err = errors.Join(err, d.Wait())
	}
	return len(ds), err
}

// meant reports whether the subscriber meets the query and has none of the topics before.
func (l *Link) meant(q TopicQuery, before []string, who Subscriber) (bool, error) {
	subs, err := l.hub.cfg.Store.TopicsOf(who.Email, l.app.id)
	if err != nil {
		return false, storage(err)
	}
	has := make(map[string]bool)
	for _, s := range subs {
		has[s.Topic] = has[s.Topic] || s.Device == who.Device
	}
	for _, topic := range before {
		if has[topic] {
			return false, nil
		}
	}
	return q.Match(func(topic string) bool { return has[topic] }), nil
}

// notifySubscriber is Notify for a device that subscribed, if the grant is still that of the subscription.
func (l *Link) notifySubscriber(who Subscriber, m Message) (*Delivery, error) {
	h := l.hub
	st := h.stripe(who.Email)
	st.RLock()
	defer st.RUnlock()
	g, ok, err := h.cfg.Store.Grant(who.Email, l.app.id)
	if err != nil {
		return nil, storage(err)
	}
	if !ok || g.PUID != who.PUID || g.Ended(h.cfg.Now()) {
		return nil, ErrStranger
	}
	return h.notify(&g, who.Device, m)
}
