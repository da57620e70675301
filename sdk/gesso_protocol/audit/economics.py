"""What cheating, laziness and collusion pay, in closed form: the reasons behind the shipped parameters.

Everything is in prices of one task (P = 1). The same actors are played out at random in `simulation.py`; the bench
`economics` prints both. None of this is consulted when a node acts: it is documentation that computes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gesso_protocol.audit.chances import drawn_bad, lots_majority, racing_majority

COMES = 0.8
"""Share of the stake that comes to a jury that it is drawn for, and can tell; 0.6 is the rows under stress."""


@dataclass(frozen=True)
class Market:
    """What an honest network looks like. Shares and costs are of the price."""

    cost: float = 0.6
    """What computing a task costs its node."""
    steps: int = 30
    checked: int = 2
    rate: float = 0.05
    """Share of tasks that are audited."""
    sees: float = 0.98
    """An honest auditor flags a bad step that it runs."""
    comes: float = COMES
    sticks: float = lots_majority(21, 14, COMES)
    """A flag ends in a penalty: the jury, seated by lot alone, reaches its quorum of those who come."""
    confirms: float = lots_majority(35, 20, COMES)
    """The same of the second jury, without which no conviction stands that the node appeals."""
    appeal_bond: float = 240.0
    penalty: float = 1000.0
    stake: float = 10_000.0
    overhead: float = 0.12
    """What an audit costs beside its steps (embeddings, decode, transfer), as a share of the task's cost."""

    @property
    def honest_profit(self) -> float:
        """A task's price less its cost."""
        return 1 - self.cost

    @property
    def fine(self) -> float:
        """What a conviction costs a guilty node that takes the cheaper way: it bears the penalty, or puts up a bond,
        which it loses, in the hope of a second jury without a quorum."""
        return min(self.penalty, self.confirms * self.penalty + self.appeal_bond)

    @property
    def audit_cost(self) -> float:
        """What one auditor's work on one task costs."""
        return self.cost * (self.checked / self.steps + self.overhead)


@dataclass(frozen=True)
class Cheat:
    """A node's strategy: the share of its cost that it saves, and the share of transitions that are bad.

    `plain`: the exact checks or the ones without a model find it whatever steps are drawn.
    """

    name: str
    saves: float
    bad: float
    plain: bool = False

    def detection(self, market: Market) -> float:
        """Chance that an audit of such a task ends in a penalty."""
        seen = 1.0 if self.plain else drawn_bad(market.steps, round(self.bad * market.steps), market.checked)
        return market.sees * market.sticks * seen

    def profit(self, market: Market) -> float:
        """Expected profit of one task."""
        caught = market.rate * self.detection(market)
        return (1 - caught) - market.cost * (1 - self.saves) - caught * market.fine

    def break_even(self, market: Market) -> float:
        """The fine from which honest work pays more."""
        caught = market.rate * self.detection(market)
        return market.cost * self.saves / caught - 1 if caught > 0 else math.inf


CHEATS = (
    Cheat("fewer-steps", 0.5, 0.5),
    Cheat("skip-steps", 0.1, 0.1),
    Cheat("skip one step", 1 / 30, 1 / 30),
    Cheat("feature-reuse", 0.45, 0.5),
    Cheat("wrong-model", 0.7, 1.0),
    Cheat("missing-lora", 0.05, 1.0),
    Cheat("low-guidance", 0.5, 1.0),
    Cheat("other-prompt", 0.05, 1.0),
    Cheat("int8 (fp32 or fp16 task)", 0.3, 1.0),
    Cheat("int4", 0.6, 1.0),
    Cheat("cached, one jump", 1.0, 1 / 30, plain=True),
    Cheat("spread-jump", 1.0, 1.0),
    Cheat("bridge", 1.0, 1.0),
    Cheat("swap-image", 1.0, 0.0, plain=True),
    Cheat("wrong-noise", 0.3, 0.0, plain=True),
    Cheat("copied-root", 1.0, 1.0, plain=True),
    Cheat("sold-twice", 0.5, 1.0, plain=True),
    Cheat("withhold", 1.0, 1.0, plain=True),
)
"""The corpus that the tests run, with what each saves; where a cheat comes in strengths, a typical one."""


@dataclass(frozen=True)
class Pool:
    """Where the audit pool's money comes from and goes to. Amounts are in the fee token, gas in the same money."""

    fee: float
    """What a task pays."""
    protocol_bps: int
    auditor_fee: float
    gas_cost: float
    """What one auditor pays for its two transactions."""
    work_cost: float
    """What one auditor pays for its computing."""
    rate: float = 0.05
    seats: int = 2

    @property
    def income(self) -> float:
        """A task's protocol fee."""
        return self.fee * self.protocol_bps / 10_000

    @property
    def outgo(self) -> float:
        """What audits cost the pool a task."""
        return self.rate * self.seats * self.auditor_fee

    @property
    def solvent(self) -> bool:
        """Whether fees alone pay the auditors."""
        return self.income >= self.outgo

    @property
    def auditor_earns(self) -> float:
        """What an auditor has left of one audit."""
        return self.auditor_fee - self.gas_cost - self.work_cost

    @property
    def smallest_fee(self) -> float:
        """The mean fee from which the pool is solvent."""
        return self.outgo * 10_000 / self.protocol_bps


@dataclass(frozen=True)
class Bench:
    """What auditors and jurors win and lose, in prices of a task."""

    auditor_fee: float = 0.25
    auditor_penalty: float = 80.0
    auditor_gas: float = 0.06
    juror_fee: float = 1.0
    juror_penalty: float = 40.0
    juror_cost: float = 0.3
    jurors: int = 21
    quorum: int = 14
    appeal_jurors: int = 35
    appeal_quorum: int = 20
    bond: float = 80.0
    lots: float = 4.0
    """Seats that the lot gives an audit by expectation: two, and the threshold doubles once (`lot_doublings`)."""
    audit_fee: float = 0.5
    """What a requester pays on top of the price to have its task audited for certain."""
    doubt_returns: float = 0.0
    """Share of the fee that comes back to the requester of work in doubt: it is burned. Were it 1, large fees would
    pay who accuses what nobody else can run."""
    large_fee: float = 83.0
    """Fees from here on are audited for certain, without an audit fee."""
    vetting_rate: float = 0.2
    vote_gas: float = 0.06
    challenge_gas: float = 0.07
    requester_share: float = 0.2
    """Of what a guilty node loses."""
    others_can: float = 0.01
    """Chance that work which one juror cannot tell is found bad by the others, who had its model or more time."""

    @property
    def alarm(self) -> float:
        """What an auditor pays that alone accuses work which jurors find good: their pay. Two accusers share it."""
        return min(self.jurors * self.juror_fee, self.auditor_penalty)

    def alarm_trade(self, seats: float) -> float:
        """Profit of a false alarm for one or two auditors that hold this many of the jury's seats, too."""
        return seats * (self.juror_fee - self.juror_cost) - self.alarm - self.auditor_gas

    def auditor(self, market: Market, honest: float) -> dict[str, float]:
        """Profit of one audit a strategy, when the other seat is honest with this chance and the node is honest.

        Idle pairs that share a made-up projection are counted as undetected, which is the worst case.
        """
        fee, lose = self.auditor_fee - self.auditor_gas, market.sticks * honest * self.auditor_penalty
        return {
            "honest": fee - market.audit_cost,
            "lazy: guesses": fee - self.auditor_fee * honest - lose,
            "copies the other's seal": fee - self.auditor_fee * honest - lose,
            "always flags": -self.auditor_gas
            - market.audit_cost
            - market.sticks * (honest * self.alarm + (1 - honest) * self.alarm / 2),
            "commits and is silent": -self.auditor_gas / 2 - self.auditor_penalty,
            "always says withheld": -self.auditor_gas - market.sticks * self.alarm,
            "says withheld where jurors cannot tell": -self.auditor_gas,
            "honest, but the node opens to jurors only": -self.auditor_gas
            - market.audit_cost
            - market.sticks * self.alarm,
            "honest, alone before jurors that did not look": -self.auditor_gas - market.audit_cost - self.alarm,
        }

    def losses(self, market: Market) -> dict[str, float]:
        """What a jury costs whom it wrongs: honest auditors to whom a node opened nothing, though it opened to jurors,
        and those who accused bad work before a quorum that did not look. Only jurors gain what they lose."""
        work = self.auditor_gas + market.audit_cost
        rings = {
            f"good work that only a ring can judge, it holds {share:.0%}, a challenge: the node, if it {does}": -loss
            for share in (0.25, 1 / 3)
            for does, loss in (("appeals", self.ringed(share, market)),
                               ("does not", self.convicts(share, appealed=False) * (market.penalty + 1)))
        }  # fmt: skip
        return rings | {
            "node that opens to jurors only: the node": 0.0,
            "the same: each of two auditors that say so": -work - market.sticks * self.alarm / 2,
            "the same: an auditor that says so alone": -work - market.sticks * self.alarm,
            "the same: the requester, and the pool": 0.0,
            "bad work, a quorum says good unseen: the requester": -1.0,
            "the same: each of two honest flaggers": -work - self.alarm / 2,
            "the same: a lone honest flagger": -work - self.alarm,
            "the same: an honest juror that votes bad": -self.juror_cost - self.juror_penalty,
        }

    def beyond(self, market: Market) -> dict[str, float]:
        """What no rule prevents. Profit of a task for a node that cheats where others cannot see it: nothing is
        measured of a device without calibrated limits, which is its own word, and of the rest it does no work; honest
        work earns `honest_profit`. And of a requester whose friends are drawn for a jury that nobody else can join."""
        both = lots_majority(self.lots, 2, 1.0) * market.sees**2
        unmeasured = {
            f"claims an unknown device: {cheat.name}": 1 - market.cost * (1 - cheat.saves)
            for cheat in CHEATS
            if cheat.name in ("wrong-model", "int4", "fewer-steps")
        }
        alone = {
            f"convicts what only friends can run, {fee}, they hold {share:.0%}": self.convicted(share, market, price)
            for share in (1 / 3, 0.4)
            for fee, price in (("an ordinary fee", 1.0), ("a large fee", self.large_fee))
        }
        alone |= {
            f"the same of a node that does not appeal, a large fee, they hold {share:.0%}": self.convicted(
                share, market, self.large_fee, appealed=False
            )
            for share in (0.2, 0.25, 1 / 3)
        }
        return (
            unmeasured
            | alone
            | {
                "nobody else can run the work": 1.0,
                "auditors can, jurors cannot, at 5 %": 1 - market.rate * both,
                "auditors can, jurors cannot, at 20 %": 1 - self.vetting_rate * both,
                "auditors can, jurors cannot, always audited": 1 - both,
            }
        )

    def unseen(self, wrong: float) -> float:
        """Profit of saying "good" of what cannot be told, when others with this share of stake do so, always first.

        Without a verdict no vote is paid, so this takes a quorum of such votes, against honest ones of "cannot tell",
        and it risks the penalty.
        """
        quorum = racing_majority(self.jurors - 1, self.quorum - 1, wrong)
        return quorum * self.juror_fee - (1 - quorum) * self.others_can * self.juror_penalty

    def juror(self, honest_majority: float, wrong: float = 0.2, comes: float = COMES) -> dict[str, float]:
        """Profit of one seat a strategy, when the honest vote wins with this chance and else the false one does, and
        this share of the stake comes, as no vote is paid without a quorum.

        `juror_cost` is the gas of two transactions and a few steps in fp32; only who votes honestly pays for the steps.
        `wrong`: the share of stake that says "good" of what it cannot tell.
        """
        win, lose, sticks = self.juror_fee, self.juror_penalty, lots_majority(self.jurors, self.quorum, comes)
        return {
            "honest": sticks * (honest_majority * win - (1 - honest_majority) * lose) - self.juror_cost,
            "votes at random": sticks * 0.5 * (win - lose),
            "always cannot tell": 0.0,
            "says good where jurors cannot tell": self.unseen(wrong),
            "silent": -lose,
        }

    def requester(self, honest_majority: float, market: Market) -> dict[str, float]:
        """Profit of one task with honest work, against paying for it: by a challenge, by auditors that accuse it, by a
        jury that convicts it. Where others cannot tell, friends hold the seats that they wait for or were drawn for."""
        large = self.large_fee
        rows = {
            "challenges everything": (1 - honest_majority) * 1.0 - honest_majority * self.bond,
            "challenges what jurors cannot tell": -self.bond,
        }
        for share in (0.1, 0.2, 1 / 3):
            whose = f"friends hold {share:.0%}"
            rows |= {
                f"challenges what jurors cannot tell, {whose}": self.doubted(share),
                f"the same with a large fee, {whose}": self.doubted(share, large),
                f"accuses what only friends can run, in a sure audit, {whose}": self.accused(share) - self.audit_fee,
                f"accuses it with a large fee, {whose}": self.accused(share, large),
                f"accuses it of a vetting node, sampled, {whose}": self.vetting_rate * self.accused(share, large),
            }
        for share in (0.1, 0.2, 0.25, 0.3):
            whose = f"friends hold {share:.0%}"
            rows[f"convicts what only friends can run, {whose}"] = self.convicted(share, market, 1.0)
            rows[f"convicts it with a large fee, {whose}"] = self.convicted(share, market, large)
            rows[f"appeals doubt of it, a large fee, {whose}"] = self.appealed(share, market, large)
        return rows

    def accused(self, share: float, fee: float = 1.0) -> float:
        """Profit of two friends in the seats of an audit that flag what nobody else can run, against passing it: what
        doubt returns if the lot drew both, less the pay that they forgo if not."""
        doubt = self.drawn(share)
        return doubt * self.doubt_returns * fee - (1 - doubt) * 2 * self.auditor_fee

    def drawn(self, share: float) -> float:
        """Chance that the lot draws two wallets or more of a party with this share of stake. Nobody else need come."""
        return lots_majority(self.lots, 2, share)

    def doubted(self, share: float, fee: float = 1.0) -> float:
        """Profit of a challenge that honest jurors cannot tell, for a requester whose friends are first to a seat."""
        doubt = racing_majority(self.jurors, (self.quorum + 1) // 2, share)
        return doubt * self.doubt_returns * fee - (1 - doubt) * self.bond

    def convicts(self, share: float, *, appealed: bool = True) -> float:
        """Chance that a party with this share of stake convicts by the votes that the lot gives it, where nobody else
        sits. A node that appeals is convicted by two such juries only."""
        first = lots_majority(self.jurors, self.quorum, share)
        return first * lots_majority(self.appeal_jurors, self.appeal_quorum, share) if appealed else first

    def convicted(self, share: float, market: Market, fee: float, *, appealed: bool = True) -> float:
        """Profit of a challenge of what only friends can run: nobody else sits, and they convict if the lot draws their
        quorums. The bond comes back whatever they do, as too few are heard, and who was not drawn need not vote."""
        guilty = self.convicts(share, appealed=appealed)
        penalty = min(market.penalty * fee, market.stake)
        votes = self.quorum + (self.appeal_quorum if appealed else 0)
        won = fee + self.requester_share * penalty + votes * (self.juror_fee - self.vote_gas)
        return guilty * won - self.challenge_gas

    def appealed(self, share: float, market: Market, fee: float) -> float:
        """Profit of an appeal, from doubt that they cast on it, to a second jury that only friends join: it takes one
        quorum, and the bond is lost without."""
        guilty = lots_majority(self.appeal_jurors, self.appeal_quorum, share)
        won = self.requester_share * min(market.penalty * fee, market.stake) + fee + self.appeal_quorum * self.juror_fee
        return guilty * won - (1 - guilty) * market.appeal_bond

    def ringed(self, share: float, market: Market) -> float:
        """What such a challenge costs an honest node with an ordinary fee that appeals: fee and bond, and a penalty
        where the second jury is theirs as well."""
        lost = self.convicts(share, appealed=False) * (market.appeal_bond + 1)
        return lost + self.convicts(share) * market.penalty


def collusion(market: Market, share: float, juror_penalty: float = 40.0) -> float:
    """Profit of a task for a node that cheats at every step and does no work, whose friends hold this share of stake.

    Its friends are always first to a free auditor's seat, and it is safe while both are theirs. One honest auditor
    flags, and then only a jury without quorum helps, the first or, for a bond, the second: friends that were drawn
    stay away, which costs nothing, or take seats before others and vote for it, at a penalty each where the others have
    their quorum all the same.
    """
    both = racing_majority(2, 2, share)
    flagged = market.rate * (1 - both) * market.sees
    others = market.comes * (1 - share)
    room = 1 - lots_majority(35, 16, share)
    second = lots_majority(35, 20, others)
    fine = min(
        market.penalty,
        market.appeal_bond + second * market.penalty,
        market.appeal_bond + second * room * (market.penalty + 35 * share * juror_penalty),
    )
    convicted = flagged * lots_majority(21, 14, others)
    seated = convicted * (1 - lots_majority(21, 8, share)) * (fine + 21 * share * juror_penalty)
    return 1 - flagged - min(convicted * fine, seated)
