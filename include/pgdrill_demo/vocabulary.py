"""The words the sample data is made of."""

from __future__ import annotations

# Long lists of words read better as one string each.
# ruff: noqa: SIM905

FIRST_NAMES = (
    "Amara Bela Carlos Dilek Elif Farid Greta Hana Ivan Jonas Keiko Leila Mateo Nadia Omar Priya"
    " Quentin Rosa Samir Tove Uma Viktor Wanda Ximena Yusuf Zoe Anders Birgit Chidi Dorota"
).split()
LAST_NAMES = (
    "Adeyemi Bauer Costa Dimitrov Eriksen Fontaine Garcia Haddad Ito Jansen Kowalski Lindqvist"
    " Moreau Novak Okafor Petrov Quispe Rossi Schmidt Tanaka Ueda Vargas Weber Xu Yilmaz Zimmer"
    " Abbott Brandt Castillo Duarte"
).split()
CITIES = (
    "Aarhus Bergen Cork Dresden Evora Freiburg Ghent Haarlem Izmir Jena Krakow Leiden Malaga Nantes"
    " Oulu Porto Riga Split Turin Utrecht Varna Wroclaw York Zadar"
).split()
STREETS = (
    "Alder Lane,Bridge Street,Canal Walk,Dock Road,Elm Avenue,Ferry Way,Garden Row,Harbour"
    " View,Iron Court,Juniper Hill,King Street,Linden Allee,Mill Path,North Quay,Orchard Close,Park"
    " Crescent,Quarry Road,River Bend,Station Road,Tower Hill"
).split(",")
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
INDUSTRIES = (
    "logistics",
    "retail",
    "energy",
    "insurance",
    "education",
    "manufacturing",
    "travel",
    "agriculture",
)
CHANNELS = ("email", "phone", "chat", "web form", "trade fair", "referral")
STATUSES = ("new", "open", "waiting", "confirmed", "closed")
ADJECTIVES = (
    "Northern",
    "Harbour",
    "Green",
    "Central",
    "Old",
    "Silver",
    "Riverside",
    "First",
    "Upper",
    "Bright",
)
NOUNS = (
    "Circle",
    "House",
    "Works",
    "Point",
    "Group",
    "Garden",
    "Union",
    "Station",
    "Field",
    "Partners",
)

OPENINGS = {
    "healthcare": (
        "{first} {last} reports",
        "On {day} the patient describes",
        "Nurse {last} notes",
        "Follow-up after",
        "The family of {first} {last} asks about",
        "At the {city} clinic we saw",
    ),
    "real_estate": (
        "{street} {number}, {city}:",
        "New in {city}:",
        "{first} {last} is looking for",
        "Viewing on {day}:",
        "The owner of {street} {number} offers",
        "Broker {last} lists",
    ),
    "sales": (
        "{first} {last} from {city} asks about",
        "Call on {day}:",
        "Lead {last} writes about",
        "After the demo {first} {last} mentions",
        "The {city} team needs",
        "Renewal with {last}:",
    ),
}
CLOSINGS = {
    "healthcare": (
        "Review in {number} days.",
        "{first} {last} was informed on {day}.",
        "Reading {number} recorded.",
        "Referred to {city}.",
    ),
    "real_estate": (
        "Ask {first} {last} for a viewing on {day}.",
        "Reference {number}.",
        "{number} square metres in all.",
        "Five minutes from {street}.",
    ),
    "sales": (
        "{first} {last} follows up on {day}.",
        "About {number} seats.",
        "Quote {number} goes out on {day}.",
        "Decision falls in {city}.",
    ),
}

# A topic is subject / finding / what is done about it, each with variants separated by "|".
TOPICS = {
    "healthcare": (
        (
            "raised blood sugar|type two diabetes|thirst and frequent urination|a high HbA1c value",
            (
                "glucose stayed above target|insulin doses were missed|feet show early"
                " neuropathy|the diet log has gaps"
            ),
            (
                "metformin is increased|a dietitian visit is booked|the glucose sensor is"
                " replaced|kidney values are ordered"
            ),
        ),
        (
            (
                "high blood pressure|hypertension at home readings|dizziness when standing"
                " up|pounding headaches"
            ),
            (
                "systolic pressure keeps rising|the cuff readings differ by arm|salt intake is"
                " high|the ankles are swollen"
            ),
            (
                "an ACE inhibitor is started|amlodipine is halved|a day-long pressure profile is"
                " ordered|less salt is advised"
            ),
        ),
        (
            (
                "shortness of breath at night|asthma attacks|a wheezing cough|pollen allergy with"
                " tight chest"
            ),
            (
                "peak flow fell by a third|the inhaler is used wrongly|wheezing on both lungs|the"
                " trigger seems to be dust"
            ),
            (
                "a steroid inhaler is prescribed|inhaler training is repeated|spirometry is"
                " booked|an allergy panel is drawn"
            ),
        ),
        (
            "chest pain on effort|angina|palpitations|a past heart attack",
            (
                "the ECG shows ST depression|troponin is negative|heartbeat is"
                " irregular|cholesterol is far too high"
            ),
            (
                "a stress test is arranged|statins are continued|the cardiologist is called|beta"
                " blockers are raised"
            ),
        ),
        (
            "lower back pain|sciatica down the left leg|a stiff neck|a slipped disc",
            (
                "straight leg raise is painful|no numbness was found|muscles are tense|lifting"
                " makes it worse"
            ),
            (
                "physiotherapy is prescribed|an MRI of the spine is requested|ibuprofen for a"
                " week|gentle walking is advised"
            ),
        ),
        (
            "low mood and poor sleep|anxiety before work|panic attacks|signs of burnout",
            (
                "the depression score is moderate|appetite is lost|sleep is under five"
                " hours|concentration is poor"
            ),
            (
                "psychotherapy is offered|sertraline is begun|a sleep diary is started|sick leave"
                " is extended"
            ),
        ),
        (
            "a pregnancy check|the second trimester|morning sickness|mild contractions",
            (
                "the fetal heartbeat is normal|iron is low|the ultrasound matches the dates|weight"
                " gain is as expected"
            ),
            (
                "folic acid is continued|a glucose tolerance test is set|iron tablets are given|the"
                " midwife visits"
            ),
        ),
        (
            "a child with fever|an ear infection|tonsillitis|a vaccination visit for an infant",
            (
                "the eardrum is red|temperature reached thirty-nine|growth is on the curve|the"
                " throat is swollen"
            ),
            (
                "amoxicillin is prescribed|measles vaccine was given|fluids and rest are advised|a"
                " throat swab is taken"
            ),
        ),
        (
            (
                "a fractured wrist|a sprained ankle after a fall|knee pain when running|a"
                " dislocated shoulder"
            ),
            (
                "the X-ray shows a clean break|ligaments are torn|swelling went down|movement is"
                " limited"
            ),
            (
                "a plaster cast is applied|crutches for two weeks|surgery is discussed|a brace is"
                " fitted"
            ),
        ),
        (
            "an itching rash|eczema on the hands|a changing mole|psoriasis of the elbows",
            (
                "the skin is dry and cracked|borders of the lesion are uneven|plaques are"
                " spreading|scratching marks are seen"
            ),
            (
                "cortisone cream is applied|a skin biopsy is planned|light therapy"
                " begins|fragrance-free soap is advised"
            ),
        ),
    ),
    "real_estate": (
        (
            "a studio apartment|a one-room flat|a small furnished flat|a student apartment",
            (
                "kitchenette and shower are new|the balcony faces the courtyard|the furniture"
                " stays|the rent includes heating"
            ),
            (
                "free from next month|suited to a first home|the lease runs one year|the deposit is"
                " two rents"
            ),
        ),
        (
            (
                "a family house with garden|a terraced house|a semi-detached home|a house near the"
                " school"
            ),
            (
                "four bedrooms on two floors|the garden has apple trees|the cellar is dry|a carport"
                " for two cars"
            ),
            (
                "the playground is round the corner|schools are within walking distance|the roof"
                " was redone|kept by one family"
            ),
        ),
        (
            (
                "a penthouse with roof terrace|a luxury loft|a top-floor apartment|a duplex above"
                " the city"
            ),
            (
                "floor-to-ceiling windows|a private lift|oak floors and underfloor heating|a view"
                " over the skyline"
            ),
            (
                "concierge and pool in the building|two parking bays underground|smart home"
                " throughout|price on request"
            ),
        ),
        (
            "office space|a floor of open-plan offices|a coworking unit|a representative office",
            (
                "raised floors with fibre|meeting rooms are glazed|air conditioning was"
                " renewed|reception is shared"
            ),
            (
                "flexible lease from three years|the tram stops outside|signage is allowed|fit-out"
                " is negotiable"
            ),
        ),
        (
            "a warehouse|a logistics hall|light industrial premises|storage with loading docks",
            (
                "clear height is ten metres|eight dock levellers|the floor carries heavy"
                " racks|sprinklers throughout"
            ),
            (
                "the motorway is two minutes away|trucks can turn in the yard|solar panels on the"
                " roof|leased by the pallet"
            ),
        ),
        (
            (
                "building land|a plot on the slope|a parcel with planning permission|farmland at"
                " the edge of town"
            ),
            (
                "water and power are at the border|the soil report is clean|two storeys are"
                " allowed|the plot is nearly level"
            ),
            "free of any builder|access road is paved|survey is available|can be divided",
        ),
        (
            "a cottage by the lake|a holiday home|a seaside bungalow|a cabin in the woods",
            (
                "a jetty of its own|a wood stove and sauna|the terrace looks over the water|the"
                " beach is steps away"
            ),
            (
                "let out all summer|bookings pass to the buyer|boat house included|reached by a"
                " forest road"
            ),
        ),
        (
            "a house to renovate|a historic villa|a listed building|an old farmhouse",
            (
                "beams and stucco survive|wiring must be replaced|damp in the north wall|windows"
                " are original"
            ),
            (
                "grants for restoration exist|an architect's plan is included|sold as seen|heritage"
                " rules apply"
            ),
        ),
        (
            "an investment property|a rental block|a building with twelve tenants|a yield object",
            (
                "gross yield is six percent|all flats are let|rents are below the index|the service"
                " charges are settled"
            ),
            (
                "management may stay on|share deal possible|figures in the data room|the land"
                " register is clear"
            ),
        ),
        (
            (
                "a ground-floor accessible flat|a barrier-free home|an assisted-living apartment|a"
                " flat with lift"
            ),
            (
                "doors are wide and thresholds flat|the shower is level|an emergency call is"
                " installed|handrails everywhere"
            ),
            (
                "care service in the house|the pharmacy is next door|a nurse visits weekly|pets are"
                " welcome"
            ),
        ),
    ),
    "sales": (
        (
            (
                "the price of the enterprise plan|a volume discount|the yearly licence fee|cheaper"
                " seats"
            ),
            (
                "the budget is fixed until summer|finance wants three offers|a rival is twenty"
                " percent cheaper|list price is too high"
            ),
            (
                "we offer a two-year discount|a smaller bundle is proposed|the manager approves a"
                " rebate|payment terms are stretched"
            ),
        ),
        (
            "single sign-on|the security questionnaire|data residency|audit certificates",
            (
                "SAML is a must|their auditors want ISO reports|data must stay in the"
                " union|penetration tests are requested"
            ),
            (
                "the security whitepaper is sent|a call with our CISO is set|the processing"
                " agreement is signed|a test tenant is opened"
            ),
        ),
        (
            (
                "the integration with their CRM|an API for orders|syncing contacts|a connector to"
                " the warehouse"
            ),
            (
                "fields do not map|rate limits are hit nightly|webhooks arrive twice|the old export"
                " is CSV only"
            ),
            (
                "a solutions engineer joins|sample code is shared|the connector beta is enabled|a"
                " mapping workshop is planned"
            ),
        ),
        (
            "a pilot project|the free trial|a proof of concept|a sandbox account",
            (
                "success criteria are agreed|two departments take part|usage is already high|the"
                " trial ends too early"
            ),
            (
                "the trial is extended|weekly check-ins are set|a pilot report is drafted|the"
                " rollout plan follows"
            ),
        ),
        (
            (
                "cancelling the contract|a complaint about downtime|slow support|an unhappy"
                " administrator"
            ),
            (
                "three outages hit their shop|tickets wait for days|the champion has left|logins"
                " dropped by half"
            ),
            (
                "a credit note is issued|a success manager takes over|an executive apology is"
                " sent|a recovery plan is agreed"
            ),
        ),
        (
            "more seats|an upgrade to premium|a second region|adding the analytics module",
            (
                "the team has doubled|they reached the storage limit|the new office opens"
                " soon|reports are needed by the board"
            ),
            (
                "an upsell quote is prepared|prorated billing is explained|the module is demoed|an"
                " order form is signed"
            ),
        ),
        (
            (
                "onboarding of new users|training for the team|migrating from spreadsheets|a slow"
                " rollout"
            ),
            (
                "half of the staff never logged in|the import stopped midway|managers want"
                " certificates|templates are missing"
            ),
            (
                "webinars are scheduled|the migration tool is run again|office hours are offered|a"
                " guide is written"
            ),
        ),
        (
            "the overdue invoice|a wrong VAT number|the purchase order|a change of billing address",
            (
                "accounting never got the PDF|the payment bounced|the order number is missing|tax"
                " was charged twice"
            ),
            (
                "a corrected invoice is issued|a reminder is stopped|bank details are confirmed|the"
                " refund is on its way"
            ),
        ),
        (
            "becoming a reseller|a partner programme|a joint webinar|referral fees",
            (
                "they serve eighty retailers|margin expectations are high|they want"
                " exclusivity|co-marketing funds are asked for"
            ),
            (
                "the partner contract is drafted|deal registration is explained|a joint plan is"
                " made|the territory is discussed"
            ),
        ),
        (
            (
                "a cold outreach reply|the newsletter signup|a question from the trade fair|a"
                " download of the whitepaper"
            ),
            (
                "they are only researching|the timing is next year|the wrong person was reached|a"
                " demo is welcome"
            ),
            (
                "the lead goes to nurturing|a discovery call is booked|case studies are sent|the"
                " score is raised"
            ),
        ),
    ),
}
