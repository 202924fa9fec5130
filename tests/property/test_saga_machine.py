"""Shifts of traffic, model-checked from the plan to both sites and back, over a way that loses, copies and reorders.

What must never be, whatever happens to whom: traffic at an acceptor that keeps no room for it; more than all of a class
away; more promised than a site has; a saga that skips its reservation or turns back; a shift that is over while its
donor still sends; a site that follows a planner that was succeeded. While nobody renews a lease every share comes home,
and once nobody wants anything and all is well again, nothing is left of it.
"""

from collections import Counter, defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from schemas.plan import ShiftControl
from tests.policy_cases import LIMITS, SITES
from tests.saga_world import Way, World

# Where a shift may be in the plan after the one in which it was, by its own phase then. What is left out and gone from
# a plan was only proposed, or has rested. One may be reserved by an answer and given up before the next plan.
NEXT = {
    "proposed": {"proposed", "reserved", "returning", "aborted"},
    "reserved": {"reserved", "ramping", "active", "returning"},
    "ramping": {"ramping", "active", "returning"},
    "active": {"active", "returning"},
    "returning": {"returning", "done"},
    "done": {"done"},
    "aborted": {"aborted"},
}
MAY_VANISH = {"proposed", "done", "aborted"}
# A release that was lost or refused is told again at each renewal; a donor whose answer never came is taken to have let
# go when its lease has lapsed. Then the share comes home, and a planning step or two see to the rest.
HOME_SECONDS = int(LIMITS.lease_seconds + 30 + LIMITS.shift_ramp_seconds + 30 + 5 * LIMITS.plan_interval_seconds)
# A drain ends with its lease, by whichever clock, and its share comes home over the ramp.
BY_ITSELF_SECONDS = LIMITS.lease_seconds + 30 + LIMITS.shift_ramp_seconds + 30
# A reservation that no planner knows of any more ends with its lease.
OVER_SECONDS = int(2 * LIMITS.lease_seconds + LIMITS.renew_seconds)

sites = st.sampled_from(SITES)
pairs = st.permutations(SITES).map(lambda names: (names[0], names[1]))
# Most pairs are one: what happens to one shift matters more than how many there are.
pairs = st.just(("alpha", "beta")) | st.just(("alpha", "beta")) | st.just(("alpha", "gamma")) | pairs
ways = st.sampled_from(["well", "well", "held", "lost"])
shares = st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.05]) | st.floats(0, 0.6)


class Saga(RuleBasedStateMachine):
    """Planner, donors and acceptors, one thing after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.seen = 0
        self.phases: dict[str, ShiftControl] = {}

    # What is wanted, and for how long.

    @initialize(share=shares)
    def begins(self, share: float) -> None:
        self.wants(("alpha", "beta"), "batch", share)
        self.passes(120)

    @rule(pair=pairs, service=st.sampled_from(["batch", "batch", "chat"]), share=shares)
    def wants(self, pair: tuple[str, str], service: str, share: float) -> None:
        """A share for a pair and class, from the next step on."""
        self.world.wanted[*pair, service] = share
        if share == 0:
            del self.world.wanted[*pair, service]

    @rule(prices=st.permutations([20.0, 60.0, 90.0]), optimised=st.booleans())
    def prices_change(self, prices: list[float], optimised: bool) -> None:
        """The rules move by prices; they stand while the optimiser fails."""
        self.world.prices = dict(zip(SITES, prices, strict=True))
        self.world.optimised = optimised

    @rule(seconds=st.sampled_from([1, 10, 60, 120, 300, 600, 1200]))
    def time_passes(self, seconds: int) -> None:
        self.passes(seconds)

    @rule(share=st.sampled_from([0.05, 0.2, 0.3]))
    def share_falls(self, share: float) -> None:
        """In the midst of all, what has moved is to be less."""
        self.wants(("alpha", "beta"), "batch", 0.6)
        self.passes(300)
        self.wants(("alpha", "beta"), "batch", share)
        self.passes(120)

    # What goes wrong.

    @rule(answers=st.booleans())
    def acceptor_is_cut_off(self, answers: bool) -> None:
        """From all, for longer than its lease; the donor hears everything."""
        self.wants(("alpha", "beta"), "batch", 0.4)
        self.world.ways |= {"alpha": "well", "beta": "lost"}
        self.world.sites["beta"].silent = not answers
        self.passes(2 * int(LIMITS.lease_seconds) + 120)

    @rule(seconds=st.sampled_from([0, 60, 300]))
    def donor_is_locked_out(self, seconds: int) -> None:
        """While what it has moved is called back."""
        self.wants(("alpha", "beta"), "batch", 0.0)
        if not self.world.sites["alpha"].locked_out:
            self.world.lock("alpha")
        self.passes(seconds)

    @rule(alpha=ways, beta=ways, gamma=ways, seconds=st.sampled_from([0, 60, 300]))
    def ways_change(self, alpha: Way, beta: Way, gamma: Way, seconds: int) -> None:
        self.world.ways = {"alpha": alpha, "beta": beta, "gamma": gamma}
        self.passes(seconds)

    @precondition(lambda self: self.world.in_flight)
    @rule(place=st.integers(0, 59), how=st.sampled_from(["arrives", "is copied", "is lost", "all arrive"]))
    def what_is_on_its_way(self, place: int, how: str) -> None:
        place %= len(self.world.in_flight)
        match how:
            case "is lost":
                del self.world.in_flight[place]
            case "all arrive":
                self.world.deliver_all()
            case _:
                self.world.deliver(place, copy=how == "is copied")

    @rule(name=sites, what=st.sampled_from(["lock-out", "silence", "restart", 35_000.0, 45_000.0, 51_900.0]))
    def site_has(self, name: str, what: str | float) -> None:
        """A lock-out set or lifted, silence or none, a new start, another power that it draws."""
        site = self.world.sites[name]
        match what:
            case "lock-out":
                self.world.lock(name)
            case "silence":
                site.silent = not site.silent
            case "restart":
                site.restart()
            case float():
                site.meter_watts = what

    @precondition(lambda self: self.world.planner == "there")
    @rule(told=st.none() | st.integers(0, 3), seconds=st.sampled_from([0, 0, 60, 600, 1200]))
    def planner_is_succeeded(self, told: int | None, seconds: int) -> None:
        """It dies, perhaps over a plan of which only some was told; another comes, perhaps later."""
        self.world.dies(told)
        self.is_alone(seconds)

    @precondition(lambda self: self.world.planner == "there")
    @rule(seconds=st.sampled_from([60, 600, 1200]))
    def planner_is_cut_off(self, seconds: int) -> None:
        self.world.is_cut_off()
        self.is_alone(seconds)

    def is_alone(self, seconds: int) -> None:
        """Nobody renews a lease for a while: then every share comes home by itself."""
        self.passes(seconds)
        for site in self.world.sites.values():
            if seconds > BY_ITSELF_SECONDS and not site.locked_out:
                assert not site.shares
                assert not site.shifts("drain")
        self.world.is_there_again()

    # What must come of it.

    @rule()
    def all_is_well_and_nothing_wanted(self) -> None:
        """Then all comes to an end: what moves is home soon, and nothing is held for it after a while."""
        world = self.world
        world.wanted, world.optimised = {}, True
        for name, site in world.sites.items():
            site.locked_out = site.silent = False
            world.ways[name] = "well"
        world.deliver_all()
        self.passes(HOME_SECONDS)
        assert not world.living()
        for site in world.sites.values():
            assert not site.shares
            assert not site.shifts("drain")
        self.passes(OVER_SECONDS, 60)
        assert not world.sent
        assert not any(site.shifts("reserve") for site in world.sites.values())

    def passes(self, seconds: int, tick_seconds: int = 10) -> None:
        """Lets time pass, and looks at every tick."""
        while seconds > 0:
            passed = min(seconds, tick_seconds)
            self.world.pass_time(passed)
            seconds -= passed
            self.traffic_has_a_place()
            self.what_is_over_is_over()

    @invariant()
    def traffic_has_a_place(self) -> None:
        """Rule 8: what a donor sends away, the acceptor keeps room for."""
        for donor, site in self.world.sites.items():
            for (service, acceptor), share in ({} if site.out_of_hand else site.shares).items():
                kept = [
                    each
                    for each in self.world.sites[acceptor].shifts("reserve")
                    if (each.from_site_id, each.service_class) == (donor, service)
                ]
                assert share <= sum(each.share_ratio for each in kept) + 1e-6, (donor, acceptor, service)

    @invariant()
    def no_more_than_all_is_away(self) -> None:
        for donor, site in self.world.sites.items():
            away: dict[str, float] = defaultdict(float)
            for (service, _), share in site.shares.items():
                away[service] += share
            planned: dict[str, float] = defaultdict(float)
            for each in self.world.living():
                if each.from_site_id == donor:
                    planned[each.service_class] += each.share_ratio
            assert all(share <= 1 + 1e-6 for share in (*away.values(), *planned.values()))

    @invariant()
    def no_site_promises_more_than_it_has(self) -> None:
        assert all(site.least_room_watts >= -1e-6 for site in self.world.sites.values())

    @invariant()
    def the_highest_pair_is_obeyed(self) -> None:
        assert not any(site.obeyed_lower for site in self.world.sites.values())

    @invariant()
    def few_shifts_at_once(self) -> None:
        """One rise at a time for a pair, each of some size: with no more than all away, that bounds them."""
        begun = Counter(
            (each.from_site_id, each.to_site_id, each.service_class)
            for each in self.world.living()
            if each.phase in {"proposed", "reserved"}
        )
        assert all(count == 1 for count in begun.values())
        assert all(each.share_ratio >= 0.01 for each in self.world.living())

    @invariant()
    def sagas_go_their_way(self) -> None:
        for plan in self.world.plans[self.seen :]:
            now = {each.control_id: each for each in plan.shifts}
            assert len(now) == len(plan.shifts)
            for name, before in self.phases.items():
                assert name in now or before.phase in MAY_VANISH
            for name, control in now.items():
                known = self.phases.get(name)
                assert control.phase in (NEXT[known.phase] if known else {"proposed"}), (known, control)
            self.phases = now
        self.seen = len(self.world.plans)

    @invariant()
    def what_is_over_is_over(self) -> None:
        """A donor sends nothing of a shift that is over; nothing was ever sent of one that was given up."""
        for control in self.world.plan.shifts:
            if control.phase in {"done", "aborted"}:
                donor = self.world.sites[control.from_site_id]
                if donor.out_of_hand:
                    continue
                assert not any(each.control_id == control.control_id for each in donor.shifts("drain"))
                assert not any(each.control_id == control.control_id for each in donor.state.shares)


Saga.TestCase.settings = settings(deadline=None, max_examples=16, stateful_step_count=25)
test_shifts_under_anything = Saga.TestCase
